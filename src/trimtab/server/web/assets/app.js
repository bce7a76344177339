// node_modules/preact/dist/preact.mjs
var n$1;
var t$2;
var r$2;
var u$2;
var i$2;
var f$2;
var o$2;
var e$2;
var l$2;
var c$2;
var a$2;
var h$3 = Symbol.for("pv");
var p$3 = {};
var y$3 = [];
var v$2 = /^m(i|n|o|s|text|space)$/;
var w$3 = Array.isArray;
var d$3 = y$3.slice;
var _$2 = Object.assign;
function g$3(n) {
	n && n.parentNode && n.remove();
}
function k$2(n, t, r) {
	var u, i, f, o = {}, e = arguments.length;
	for (f in t) "key" == f ? u = t[f] : "ref" == f && "function" != typeof n ? i = t[f] : o[f] = t[f];
	return e > 2 && (o.children = e > 3 ? d$3.call(arguments, 2) : r), m$3(n, o, u, i, null);
}
function m$3(r, u, i, f, o) {
	var e = {
		type: r,
		props: u,
		key: i,
		ref: f,
		__k: null,
		__: null,
		__b: 0,
		__e: null,
		__c: null,
		constructor: h$3,
		__v: o || ++t$2,
		__i: -1,
		__u: 0
	};
	return !o && n$1.vnode && n$1.vnode(e), e;
}
function $(n) {
	return n.children;
}
function x$1(n, t) {
	this.props = n, this.context = t, this.__g = 0;
}
function S$1(n, t) {
	if (null == t) return n.__ && S$1(n.__, n.__i + 1);
	for (var r; t < n.__k.length; t++) if ((r = n.__k[t]) && r.__e) return r.__e;
	return "function" != typeof n.type || n.props.__P ? null : S$1(n);
}
function C$1(t) {
	var r, u = t.__v, i = u.__e, f = [], o = [], e = t.__P;
	e && ((r = _$2({ constructor: h$3 }, u)).__v = u.__v + 1, n$1.vnode && n$1.vnode(r), z$1(e, r, u, t.__n, e.namespaceURI, 32 & u.__u ? [i] : null, f, i || S$1(u), 32 & u.__u, o), r.__v = u.__v, r.__.__k[r.__i] = r, E$1(f, r, o), u.__ = u.__e = null, r.__e != i && j$1(r));
}
function j$1(n) {
	if ((n = n.__) && n.__c && !n.props.__P) return n.__e = null, n.__k.some(function(t) {
		return t && (n.__e = t.__e);
	}), j$1(n);
}
function L(t) {
	(8 & t.__g || (t.__g |= 8, u$2.push(t), f$2++)) && i$2 == n$1.debounceRendering || ((i$2 = n$1.debounceRendering) || queueMicrotask)(H);
}
function H() {
	try {
		for (var n, t = 1; u$2.length;) u$2.length > t && u$2.sort(o$2), n = u$2.shift(), t = u$2.length, 8 & n.__g && C$1(n);
	} finally {
		(f$2 = u$2.length) && (i$2 || queueMicrotask)(H);
	}
}
function I(n, t, r, u, i, f, o, e, l, c, a) {
	var s, h, v, w, d, _, g = u.__k || y$3, k = t.length;
	for (l = q(r, t, g, l, k), s = 0; s < k; s++) null != (v = r.__k[s]) && (h = ~v.__i && g[v.__i] || p$3, v.__i = s, _ = z$1(n, v, h, i, f, o, e, l, c, a), w = v.__e, (h.ref != v.ref || 8 & h.__u) && (h.ref && G$1(h.ref, null, v, h), v.ref && a.push(v.ref, v.__c || w, v)), d = d || w, 4 & v.__u ? (l = A$2(v, l, n, !h.__v), h.__e && (h.__e = null)) : "function" == typeof v.type && void 0 !== _ ? l = _ : w && (l = w.nextSibling), v.__u &= -21);
	return r.__e = d, l;
}
function q(n, t, r, u, i) {
	var f, o, e, l, c, a, s, p, y, v = r.length, d = v, _ = 0, g = 0, k = n.__k = Array(i);
	for (f = 0; f < i; f++) null != (o = t[f]) && "boolean" != typeof o && "function" != typeof o ? ("object" != typeof o || o.constructor === String ? o = k[f] = m$3(null, o) : w$3(o) ? o = k[f] = m$3($, { children: o }) : o.constructor === h$3 && o.__b ? o = k[f] = m$3(o.type, o.props, o.key, o.ref, o.__v) : k[f] = o, l = f + _, o.__ = n, o.__b = n.__b + 1, e = null, ~(c = o.__i = P$1(o, r, l, d)) && (d--, (e = r[c]) && (e.__u |= 2)), e && e.__v ? (o.__u |= 16, c == l - 1 ? _-- : c == l + 1 ? _++ : c != l && (c > l ? _-- : _++, g = 1)) : (~c || (i > v ? _-- : i < v && _++), "function" != typeof o.type && (o.__u |= 4))) : k[f] = null;
	if (g) {
		for (a = [], s = [], f = 0; f < i; f++) if ((o = k[f]) && 16 & o.__u) {
			for (_ = 0, p = a.length; _ < p;) a[y = _ + p >> 1] < o.__i ? _ = y + 1 : p = y;
			a[_] = o.__i, s[f] = _ + 1;
		}
		for (_ = a.length; f--;) s[f] && (s[f] == _ ? _-- : k[f].__u |= 4);
	}
	if (d) for (f = 0; f < v; f++) !(e = r[f]) || 2 & e.__u || (e.__e == u && (u = S$1(e)), J(e, e));
	return u;
}
function A$2(n, t, r, u) {
	var i, f, o, e;
	if ("function" == typeof n.type) {
		if (n.props.__P) return t;
		if (i = n.__k) for (f = 0; f < i.length; f++) i[f] && (i[f].__ = n, t = A$2(i[f], t, r, !1));
		return t;
	}
	for (t && !t.parentNode && (t = S$1(n)) && !t.parentNode && (t = null), o = n.__e, e = t; e && 8 == e.nodeType;) e = e.nextSibling;
	for (o != e && (!u && r.moveBefore && o.parentNode ? r.moveBefore(o, t) : r.insertBefore(o, t || null)), t = o; (t = t && t.nextSibling) && 8 == t.nodeType && !t.data.startsWith("$s"););
	return t;
}
function P$1(n, t, r, u) {
	var i, f = n.key, o = n.type, e = t[r], l = e && !(2 & e.__u);
	if (null === e && null == f || l && f == e.key && o == e.type) return r;
	if (u > (l ? 1 : 0)) {
		for (i = r - 1; i >= 0; i--) if ((e = t[i]) && !(2 & e.__u) && f == e.key && o == e.type) return i;
		for (i = r + 1; i < t.length; i++) if ((e = t[i]) && !(2 & e.__u) && f == e.key && o == e.type) return i;
	}
	return -1;
}
function T$1(n, t, r) {
	r ??= "", "-" == t[0] ? n.setProperty(t, r) : n[t] = r;
}
function N(n, t, r, u, i) {
	var f, o;
	if ("style" == t) if ("string" == typeof r) n.style.cssText = r;
	else {
		if ("string" == typeof u && (n.style.cssText = u = ""), u) for (t in u) r && t in r || T$1(n.style, t);
		if (r) for (t in r) u && r[t] == u[t] || T$1(n.style, t, r[t]);
	}
	else if ("o" == t[0] && "n" == t[1]) "function" != typeof r && (r = null), "function" != typeof u && (u = null), (n.__e || (n.__e = {}))[t] = r, r && u || (o = a$2[t] || (a$2[t] = V(t)), (n.__a || (n.__a = {}))[t] = c$2, f = t != (t = t.replace(l$2, "$1")), (t = t.slice(2))[0] < "a" && (t = t.toLowerCase()), r ? n.addEventListener(t, o, f) : n.removeEventListener(t, o, f));
	else {
		if ("http://www.w3.org/2000/svg" == i) t = t.replace(/xlink(H|:h)/, "h").replace(/sName$/, "s");
		else if ("width" != t && "height" != t && "href" != t && "list" != t && "form" != t && "tabIndex" != t && "download" != t && "rowSpan" != t && "colSpan" != t && "role" != t && "popover" != t && t in n) try {
			n[t] = null == r ? "" : r;
			return;
		} catch (n) {}
		if ("function" == typeof r) return;
		null == r || !1 === r && "-" != t[4] ? n.removeAttribute(t) : n.setAttribute(t, "popover" == t && 1 == r ? "" : r);
	}
}
function V(t) {
	return function(r) {
		var u = this.__e;
		if (u) {
			if (u = u[t], null == r[e$2]) r[e$2] = c$2++;
			else if (r[e$2] < this.__a[t]) return;
			return u(n$1.event ? n$1.event(r) : r);
		}
	};
}
function z$1(t, r, u, i, f, o, e, l, c, a) {
	var s, p, v, d, k, b, m, M, C, j, L, H, q, A, O, P, T, N, V = r.type;
	if (r.constructor !== h$3) return null;
	128 & u.__u && (c = 32 & u.__u, s = u.__c.__z) && (r.__u |= c, p = o = [], 8 == s.nodeType ? l = B$1(s, o) : o.push(s), l = o[0] || l), (s = n$1.__b) && s(r);
	n: if ("function" == typeof V) {
		v = e.length;
		try {
			if (M = r.props, C = (s = V.prototype) && s.render, j = (s = V.contextType) && i[s.__c], L = s ? j ? j.props.value : s.__ : i, (d = u.__c) ? (r.__c = d, 2 & d.__g && (d.__g |= 1)) : (C ? r.__c = d = new V(M, L) : (r.__c = d = new x$1(M, L), d.constructor = V, d.render = K), j && j.sub(d), d.state || (d.state = {}), d.__n = i, d.__g |= 8, d.__h = [], d.__k = []), C && (d.__s || (d.__s = d.state), V.getDerivedStateFromProps && (d.__s == d.state && (d.__s = _$2({}, d.__s)), _$2(d.__s, V.getDerivedStateFromProps(M, d.__s)))), k = d.props, b = d.state, d.__v = r, u.__c) {
				if (M !== k && C && !V.getDerivedStateFromProps && d.componentWillReceiveProps && d.componentWillReceiveProps(M, L), r.__v == u.__v && !(8 & d.__g) || !(4 & d.__g) && d.shouldComponentUpdate && !1 === d.shouldComponentUpdate(M, d.__s, L)) {
					r.__v != u.__v && (d.props = M, d.state = d.__s, d.__g &= -9), r.__e = u.__e, r.__k = u.__k, r.__k.some(function(n) {
						n && (n.__ = r);
					}), y$3.push.apply(d.__h, d.__k), d.__k = [], d.__h.length && e.push(d), l = S$1(u);
					break n;
				}
				d.componentWillUpdate && d.componentWillUpdate(M, d.__s, L), C && d.componentDidUpdate && d.__h.push(function() {
					d.componentDidUpdate(k, b, m);
				});
			} else C && !V.getDerivedStateFromProps && d.componentWillMount && d.componentWillMount(), C && d.componentDidMount && d.__h.push(d.componentDidMount);
			d.context = L, d.props = M, d.__P = t, d.__g &= -5, H = n$1.__r, q = C ? 25 : 0;
			do
				d.__g &= -9, H && H(r), s = d.render(d.props, d.state = d.__s, d.context);
			while (8 & d.__g && ++q < 25);
			C && (y$3.push.apply(d.__h, d.__k), d.__k = []), d.state = d.__s, d.getChildContext && (i = _$2({}, i, d.getChildContext())), C && u.__c && d.getSnapshotBeforeUpdate && (m = d.getSnapshotBeforeUpdate(k, b)), A = s && s.type === $ && null == s.key ? s.props.children : s, M.__P && (s = l, f = (t = M.__P).namespaceURI, c = o = null, u.props && u.props.__P != t && (u.__k.some(function(n) {
				n && J(n, n);
			}), u.__k = null), l = u.__k ? S$1(u, 0) : null), l = I(t, w$3(A) ? A : [A], r, u, i, f, o, e, l, c, a), M.__P && (r.__e = null, l = s), r.__u &= -161, p && p.some(g$3), d.__h.length && e.push(d), 1 & d.__g && (d.__g &= -4);
		} catch (t) {
			if (e.length = v, r.__v = null, c || o) if (t && t.then) {
				if (r.__u |= 128 | c, o) {
					for (~(T = o.indexOf(l || void 0)) || (T = o.length); (N = o[T - 1]) && 8 == N.nodeType;) T--;
					for (; T < o.length; T++) if (N = o[T]) if (o[T] = null, O) {
						if (N == P) break;
					} else {
						if (8 != N.nodeType) break;
						N.data.startsWith("$s") && (P = B$1(O = N));
					}
				}
				if (!O) {
					for (; l && 8 == l.nodeType && l.nextSibling;) l = l.nextSibling;
					O = l;
				}
				(s = B$1(O = r.__c.__z || (r.__c.__z = O))) ? (r.__e = O, l = s) : r.__e = l, l = l && l.nextSibling;
			} else o && o.some(g$3);
			else r.__e = u.__e;
			r.__k || (r.__k = u.__k || []), t && t.then || D$1(r), n$1.__e(t, r, u);
		}
	} else l = r.__e = F$1(u.__e, r, u, i, f, o, e, c, a, t);
	return (s = n$1.diffed) && s(r), l;
}
function B$1(n, t) {
	if (n && 8 == n.nodeType && n.data.startsWith("$s")) for (var r = 1; n = n.nextSibling;) {
		if (8 == n.nodeType) {
			if (n.data.startsWith("$s")) r++;
			else if (n.data.startsWith("/$s") && !--r) return n;
		}
		t && t.push(n);
	}
}
function D$1(n) {
	n && (n.__c && (n.__c.__g |= 4), n.__k && n.__k.some(D$1));
}
function E$1(t, r, u) {
	for (var i = 0; i < u.length;) G$1(u[i++], u[i++], u[i++]);
	n$1.__c && n$1.__c(r, t), t.some(function(r) {
		try {
			t = r.__h, r.__h = [], t.some(function(n) {
				n.call(r);
			});
		} catch (t) {
			n$1.__e(t, r.__v);
		}
	});
}
function F$1(t, r, u, i, f, o, e, l, c, a) {
	var s, h, y, _, k, b, m, M, $ = u.props || p$3, x = r.props, C = r.type;
	if ("svg" == C ? f = "http://www.w3.org/2000/svg" : "math" == C ? f = "http://www.w3.org/1998/Math/MathML" : f || (f = "http://www.w3.org/1999/xhtml"), o) {
		for (s = 0; s < o.length; s++) if ((k = o[s]) && (C ? k.localName == C : 3 == k.nodeType)) {
			t = k, o[s] = null;
			break;
		}
	}
	if (!t) {
		if (M = a.ownerDocument || document, !C) return M.createTextNode(x);
		t = M.createElementNS(f, C, x.is ? x : a), l && (n$1.__m && n$1.__m(r, o), l = !1), o = null;
	}
	if (C) {
		if (a = "template" == C && t.content || t, o = "textarea" == C && null != x.defaultValue ? null : o && d$3.call(a.childNodes), !l && o) for ($ = {}, s = 0; s < t.attributes.length; s++) $[(k = t.attributes[s]).name] = k.value;
		for (s in $) k = $[s], "dangerouslySetInnerHTML" == s ? y = k : "children" == s || s in x || "value" == s && "defaultValue" in x || "checked" == s && "defaultChecked" in x || N(t, s, null, k, f);
		for (s in x) k = x[s], "children" == s ? _ = k : "dangerouslySetInnerHTML" == s ? h = k : "value" == s ? b = k : "checked" == s ? m = k : l && "function" != typeof k || $[s] === k || N(t, s, k, $[s], f);
		h ? (l || y && (h.__html == y.__html || h.__html == t.innerHTML) || (t.innerHTML = h.__html), r.__k = []) : (y && (t.textContent = ""), ("foreignObject" == C || "http://www.w3.org/1998/Math/MathML" == f && v$2.test(C)) && (f = "http://www.w3.org/1999/xhtml"), I(a, w$3(_) ? _ : [_], r, u, i, f, o, e, o ? o[0] : u.__k && S$1(u, 0), l, c), o && o.some(g$3)), l && "textarea" != C || (s = "value", "progress" == C && null == b ? t.removeAttribute(s) : null == b || b === t[s] && ("progress" != C || b) || N(t, s, b, $[s], f), s = "checked", null != m && m != t[s] && N(t, s, m, $[s], f));
	} else $ === x || l && t.data == x || (t.data = x);
	return t;
}
function G$1(t, r, u, i) {
	try {
		"function" == typeof t ? r ? r.__x = t(r) || 1 : i && (i = i.__c || i.__e) && (r = i.__x) && (i.__x = null, "function" == typeof r ? r() : t(null)) : t.current = r;
	} catch (t) {
		n$1.__e(t, u);
	}
}
function J(t, r, u) {
	var i, f, o, e;
	if (n$1.unmount && n$1.unmount(t), !(i = t.ref) || i.current && i.current != t.__e || G$1(i, null, r, t), i = t.__c) {
		if (i.componentWillUnmount) try {
			i.componentWillUnmount();
		} catch (t) {
			n$1.__e(t, r);
		}
		i.__P = i.__n = null;
	}
	if (i = t.__k) for (e = 0; e < i.length; e++) i[e] && J(i[e], r, "function" != typeof t.type || u && !t.props.__P);
	!u && (i = t.__c) && (i = i.__z) && (f = B$1(i, o = [])) && (i == t.__e && o.some(g$3), g$3(f), g$3(i)), u || g$3(t.__e), t.__e = t.__c = t.__ = null;
}
function K(n, t, r) {
	return this.constructor(n, r);
}
function Q(t, r) {
	var u, i, f, o;
	n$1.__ && n$1.__(t, r), 9 == r.nodeType && (r = r.documentElement), i = (u = t && 32 & t.__u) ? null : r.__k, r.__k = m$3($, { children: [t] }), f = [], o = [], z$1(r, r.__k, i || p$3, p$3, r.namespaceURI, i ? null : r.firstChild ? d$3.call(r.childNodes) : null, f, i ? i.__e : r.firstChild, u, o), E$1(f, r.__k, o), r.__k.props.children = null;
}
n$1 = { __e: function(n, t, r, u) {
	for (var i, o, e; t = t.__;) if ((i = t.__c) && !(1 & i.__g)) {
		i.__g |= 4;
		try {
			if ((e = (o = i.constructor) && o.getDerivedStateFromError) && i.setState(o.getDerivedStateFromError(n)), i.componentDidCatch && (i.componentDidCatch(n, u || {}), e = 1), e && 8 & i.__g) return void (i.__g |= 2);
		} catch (t) {
			n = t;
		}
	}
	throw f$2 = 0, n;
} }, t$2 = 0, r$2 = function(n) {
	return null != n && n.constructor === h$3;
}, x$1.prototype.setState = function(n, t) {
	var r = this.__s;
	r && r != this.state || (r = this.__s = _$2({}, this.state)), "function" == typeof n && (n = n(_$2({}, r), this.props)), n && (_$2(r, n), this.__v && (t && this.__k.push(t), L(this)));
}, x$1.prototype.forceUpdate = function(n) {
	this.__v && (this.__g |= 4, n && this.__h.push(n), L(this));
}, x$1.prototype.render = $, u$2 = [], f$2 = 0, o$2 = function(n, t) {
	return n.__v.__b - t.__v.__b;
}, e$2 = Symbol(), l$2 = /(PointerCapture)$|Capture$/i, c$2 = 0, a$2 = {};
// node_modules/preact/hooks/dist/hooks.mjs
var t$1;
var r$1;
var u$1;
var i$1;
var o$1 = Object.is;
var f$1 = 0;
var c$1 = [];
var e$1 = [];
var a$1 = n$1;
var v$1 = a$1.__b;
var l$1 = a$1.__r;
var m$2 = a$1.diffed;
var h$2 = a$1.__c;
var s$1 = a$1.unmount;
var p$2 = a$1.__;
function y$2(n, t) {
	a$1.__h && a$1.__h(r$1, n, f$1 || t), f$1 = 0;
	var u = r$1.__H || (r$1.__H = {
		__: [],
		__h: []
	});
	return n >= u.__.length && u.__.push({}), u.__[n];
}
function d$2(n) {
	return f$1 = 1, _$1(G, n);
}
function _$1(n, u, i) {
	var f = y$2(t$1++, 2);
	if (f.t = n, !f.__c && (f.__ = [i ? i(u) : G(void 0, u), function(n) {
		var t = (f.__N || f.__)[0], r = f.t(t, n);
		o$1(t, r) || (f.__N = [r, f.__[1]], f.__c.setState({}));
	}], f.__c = r$1, !r$1.__f)) {
		r$1.__f = !0;
		var c = r$1.shouldComponentUpdate;
		r$1.shouldComponentUpdate = function(n, t, r) {
			var u = this.__H;
			if (!u) return !0;
			var i = !1, f = this.props != n;
			if (u.__.some(function(n) {
				n.__N && (i = !0, o$1(n.__[0], n.__N[0]) || (f = !0));
			}), c) {
				var e = c.call(this, n, t, r);
				return i ? e || f : e;
			}
			return !i || f;
		};
	}
	return f.__;
}
function A$1(n, u) {
	var i = y$2(t$1++, 3);
	!a$1.__s && E(i.__H, u) && (i.__P = !0, i.__ = n, i.u = u, r$1.__H.__h.push(i));
}
function T(n) {
	return f$1 = 5, w$2(function() {
		return { current: n };
	}, []);
}
function w$2(n, r) {
	var u = y$2(t$1++, 7);
	return E(u.__H, r) && (u.__ = n(), u.__H = r), u.__;
}
function P() {
	var n = y$2(t$1++, 11);
	if (!n.__) {
		for (var u = r$1.__v; !u.__m && u.__;) u = u.__;
		var i = u.__m || (u.__m = [0, 0]);
		n.__ = "P" + i[0] + "-" + i[1]++;
	}
	return n.__;
}
function g$2() {
	var n;
	do {
		for (; n = e$1.shift();) try {
			C(n);
		} catch (t) {
			a$1.__e(t, { __: (n = n.__P) && n.__v });
		}
		for (; n = c$1.shift();) {
			var t = n.__H;
			if (n.__P && t) try {
				t.__h.some(C), t.__h.some(D), t.__h = [];
			} catch (r) {
				t.__h = [], a$1.__e(r, n.__v);
			}
		}
	} while (e$1.length);
}
a$1.__b = function(n) {
	r$1 = null, v$1 && v$1(n);
}, a$1.__ = function(n, t) {
	n && t.__k && t.__k.__m && (n.__m = t.__k.__m), p$2 && p$2(n, t);
}, a$1.__r = function(n) {
	l$1 && l$1(n), t$1 = 0;
	var i = (r$1 = n.__c).__H;
	i && (u$1 == r$1 ? r$1.__h = [] : (i.__h.some(C), i.__h.some(D), t$1 = 0), i.__h = [], i.__.some(function(n) {
		n.__N && (n.__ = n.__N), n.u = n.__N = void 0;
	})), u$1 = r$1;
}, a$1.diffed = function(n) {
	m$2 && m$2(n);
	var t = n.__c;
	t && t.__H && (t.__H.__h.length && B(c$1.push(t)), t.__H.__.some(function(n) {
		n.u && (n.__H = n.u);
	})), u$1 = r$1 = null;
}, a$1.__c = function(n, t) {
	t.some(function(n) {
		try {
			n.__h.some(C), n.__h = n.__h.filter(function(n) {
				return !n.__ || D(n);
			});
		} catch (t) {
			n.__h = [function() {
				throw t;
			}];
		}
	}), h$2 && h$2(n, t);
}, a$1.unmount = function(n) {
	s$1 && s$1(n);
	var t, r, u = n.__c;
	u && u.__H && (u.__H.__.some(function(u) {
		try {
			if (u.__P && u.__c) {
				if (void 0 === r) {
					for (r = n.__; r && (!r.__c || !r.__c.__P);) r = r.__;
					r = r && r.__c;
				}
				u.__P = r, B(e$1.push(u));
			} else C(u);
		} catch (n) {
			t = n;
		}
	}), u.__H = void 0, t && a$1.__e(t, u.__v));
};
var k$1 = "function" == typeof requestAnimationFrame;
function z(n) {
	var t, r = function() {
		clearTimeout(u), k$1 && cancelAnimationFrame(t), setTimeout(n);
	}, u = setTimeout(r, 35);
	k$1 && (t = requestAnimationFrame(r));
}
function B(n) {
	1 != n && i$1 == a$1.requestAnimationFrame || ((i$1 = a$1.requestAnimationFrame) || z)(g$2);
}
function C(n) {
	var t = r$1, u = n.__c;
	"function" == typeof u && (n.__c = void 0, u()), r$1 = t;
}
function D(n) {
	var t = r$1;
	n.__c = n.__(), r$1 = t;
}
function E(n, t) {
	return !n || n.length != t.length || t.some(function(t, r) {
		return !o$1(t, n[r]);
	});
}
function G(n, t) {
	return "function" == typeof t ? t(n) : t;
}
// node_modules/@preact/signals-core/dist/signals-core.module.js
var i = Symbol.for("preact-signals");
function t() {
	if (!(v > 1)) {
		var i, t = !1;
		(function() {
			var i = c;
			c = void 0;
			while (void 0 !== i) {
				var t = i.S;
				if (t.v === i.v) {
					for (var r = t.t; void 0 !== r; r = r.x) if (r.i === i.i) r.i = t.i;
				}
				i = i.o;
			}
		})();
		while (void 0 !== h$1) {
			var r = h$1;
			h$1 = void 0;
			s++;
			while (void 0 !== r) {
				var n = r.u;
				r.u = void 0;
				r.f &= -3;
				if (!(8 & r.f) && w$1(r)) try {
					r.c();
				} catch (r) {
					if (!t) {
						i = r;
						t = !0;
					}
				}
				r = n;
			}
		}
		s = 0;
		v--;
		if (t) throw i;
	} else v--;
}
function r(i) {
	if (v > 0) return i();
	u = ++e;
	v++;
	try {
		return i();
	} finally {
		t();
	}
}
var n;
var o = void 0;
function f(i) {
	var t = o, r = n;
	o = void 0;
	n = void 0;
	try {
		return i();
	} finally {
		o = t;
		n = r;
	}
}
var h$1 = void 0;
var v = 0;
var s = 0;
var e = 0;
var u = 0;
var c = void 0;
var a = 0;
function d$1(i) {
	if (void 0 !== o) {
		var t = i.n;
		if (void 0 === t || t.t !== o) {
			t = {
				i: 0,
				S: i,
				p: o.s,
				n: void 0,
				t: o,
				e: void 0,
				x: void 0,
				r: t
			};
			if (void 0 !== o.s) o.s.n = t;
			o.s = t;
			i.n = t;
			if (32 & o.f) i.S(t);
			return t;
		} else if (-1 === t.i) {
			t.i = 0;
			if (void 0 !== t.n) {
				t.n.p = t.p;
				if (void 0 !== t.p) t.p.n = t.n;
				t.p = o.s;
				t.n = void 0;
				o.s.n = t;
				o.s = t;
			}
			return t;
		}
	}
}
function l(i, t) {
	this.v = i;
	this.i = 0;
	this.n = void 0;
	this.t = void 0;
	this.l = 0;
	this.W = null == t ? void 0 : t.watched;
	this.Z = null == t ? void 0 : t.unwatched;
	this.name = null == t ? void 0 : t.name;
}
l.prototype.brand = i;
l.prototype.h = function() {
	return !0;
};
l.prototype.S = function(i) {
	var t = this, r = this.t;
	if (r !== i && void 0 === i.e) {
		i.x = r;
		this.t = i;
		if (void 0 !== r) r.e = i;
		else f(function() {
			var i;
			null == (i = t.W) || i.call(t);
		});
	}
};
l.prototype.U = function(i) {
	var t = this;
	if (void 0 !== this.t) {
		var r = i.e, n = i.x;
		if (void 0 !== r) {
			r.x = n;
			i.e = void 0;
		}
		if (void 0 !== n) {
			n.e = r;
			i.x = void 0;
		}
		if (i === this.t) {
			this.t = n;
			if (void 0 === n) f(function() {
				var i;
				null == (i = t.Z) || i.call(t);
			});
		}
	}
};
l.prototype.subscribe = function(i) {
	var t = this;
	return x(function() {
		var r = t.value;
		f(function() {
			return i(r);
		});
	}, { name: "sub" });
};
l.prototype.valueOf = function() {
	return this.value;
};
l.prototype.toString = function() {
	return this.value + "";
};
l.prototype.toJSON = function() {
	return this.value;
};
l.prototype.peek = function() {
	var i = this;
	return f(function() {
		return i.value;
	});
};
Object.defineProperty(l.prototype, "value", {
	get: function() {
		var i = d$1(this);
		if (void 0 !== i) i.i = this.i;
		return this.v;
	},
	set: function(i) {
		if (i !== this.v) {
			if (s > 100) throw new Error("Cycle detected");
			(function(i) {
				if (0 !== v && 0 === s) {
					if (i.l !== u) {
						i.l = u;
						c = {
							S: i,
							v: i.v,
							i: i.i,
							o: c
						};
					}
				}
			})(this);
			this.v = i;
			this.i++;
			a++;
			v++;
			try {
				for (var r = this.t; void 0 !== r; r = r.x) r.t.N();
			} finally {
				t();
			}
		}
	}
});
function y$1(i, t) {
	return new l(i, t);
}
function w$1(i) {
	for (var t = i.s; void 0 !== t; t = t.n) if (t.S.i !== t.i || !t.S.h() || t.S.i !== t.i) return !0;
	return !1;
}
function b$1(i) {
	for (var t = i.s; void 0 !== t; t = t.n) {
		var r = t.S.n;
		if (void 0 !== r) t.r = r;
		t.S.n = t;
		t.i = -1;
		if (void 0 === t.n) {
			i.s = t;
			break;
		}
	}
}
function _(i) {
	var t = i.s, r = void 0;
	while (void 0 !== t) {
		var n = t.p;
		if (-1 === t.i) {
			t.S.U(t);
			if (void 0 !== n) n.n = t.n;
			if (void 0 !== t.n) t.n.p = n;
		} else r = t;
		t.S.n = t.r;
		if (void 0 !== t.r) t.r = void 0;
		t = n;
	}
	i.s = r;
}
function j(i, t) {
	l.call(this, void 0, t);
	this.x = i;
	this.s = void 0;
	this.g = a - 1;
	this.f = 4;
}
j.prototype = new l();
j.prototype.h = function() {
	this.f &= -3;
	if (1 & this.f) return !1;
	if (32 == (36 & this.f)) return !0;
	this.f &= -5;
	if (this.g === a) return !0;
	this.g = a;
	this.f |= 1;
	if (this.i > 0 && !w$1(this)) {
		this.f &= -2;
		return !0;
	}
	var i = o;
	try {
		b$1(this);
		o = this;
		var t = this.x();
		if (16 & this.f || this.v !== t || 0 === this.i) {
			this.v = t;
			this.f &= -17;
			this.i++;
		}
	} catch (i) {
		this.v = i;
		this.f |= 16;
		this.i++;
	}
	o = i;
	_(this);
	this.f &= -2;
	return !0;
};
j.prototype.S = function(i) {
	if (void 0 === this.t) {
		this.f |= 36;
		for (var t = this.s; void 0 !== t; t = t.n) t.S.S(t);
	}
	l.prototype.S.call(this, i);
};
j.prototype.U = function(i) {
	if (void 0 !== this.t) {
		l.prototype.U.call(this, i);
		if (void 0 === this.t) {
			this.f &= -33;
			for (var t = this.s; void 0 !== t; t = t.n) t.S.U(t);
		}
	}
};
j.prototype.N = function() {
	if (!(2 & this.f)) {
		this.f |= 6;
		for (var i = this.t; void 0 !== i; i = i.x) i.t.N();
	}
};
Object.defineProperty(j.prototype, "value", { get: function() {
	if (1 & this.f) throw new Error("Cycle detected");
	var i = d$1(this);
	this.h();
	if (void 0 !== i) i.i = this.i;
	if (16 & this.f) throw this.v;
	return this.v;
} });
function O(i, t) {
	return new j(i, t);
}
function p$1(i) {
	var r = i.j;
	i.j = void 0;
	if ("function" == typeof r) {
		v++;
		var n = o;
		o = void 0;
		try {
			r();
		} catch (t) {
			i.f &= -2;
			i.f |= 8;
			g$1(i);
			throw t;
		} finally {
			o = n;
			t();
		}
	}
}
function g$1(i) {
	for (var t = i.s; void 0 !== t; t = t.n) t.S.U(t);
	i.x = void 0;
	i.s = void 0;
	p$1(i);
}
function S(i) {
	if (o !== this) throw new Error("Out-of-order effect");
	_(this);
	o = i;
	this.f &= -2;
	try {
		if (8 & this.f) g$1(this);
	} finally {
		t();
	}
}
function m$1(i, t) {
	this.x = i;
	this.j = void 0;
	this.s = void 0;
	this.u = void 0;
	this.f = 32;
	this.name = null == t ? void 0 : t.name;
	if (n) n.push(this);
}
m$1.prototype.c = function() {
	var i = this.S();
	try {
		if (8 & this.f) return;
		if (void 0 === this.x) return;
		var t = this.x();
		if ("function" == typeof t) this.j = t;
	} finally {
		i();
	}
};
m$1.prototype.S = function() {
	if (1 & this.f) throw new Error("Cycle detected");
	this.f |= 1;
	this.f &= -9;
	p$1(this);
	b$1(this);
	v++;
	var i = o;
	o = this;
	return S.bind(this, i);
};
m$1.prototype.N = function() {
	if (!(2 & this.f)) {
		this.f |= 2;
		this.u = h$1;
		h$1 = this;
	}
};
m$1.prototype.d = function() {
	this.f |= 8;
	if (!(1 & this.f)) g$1(this);
};
m$1.prototype.dispose = function() {
	this.d();
};
function x(i, t) {
	var r = new m$1(i, t);
	try {
		r.c();
	} catch (i) {
		r.d();
		throw i;
	}
	var n = r.d.bind(r);
	n[Symbol.dispose] = n;
	return n;
}
// node_modules/@preact/signals/dist/signals.module.js
var h;
var p;
var m = "undefined" != typeof window && !!window.__PREACT_SIGNALS_DEVTOOLS__;
var g = [];
x(function() {
	h = this.N;
})();
function b(i, n) {
	n$1[i] = n.bind(null, n$1[i] || function() {});
}
function y(i) {
	if (p) {
		var n = p;
		p = void 0;
		n();
	}
	p = i && i.S();
}
function w(i) {
	var n = this, r = i.data, t = useSignal(r);
	t.name = "ReactiveDom";
	t.value = r;
	var e = w$2(function() {
		var i = n, r = n.__v;
		while (r = r.__) if (r.__c) {
			r.__c.__$f |= 4;
			break;
		}
		var o = O(function() {
			var i = t.value.value;
			return 0 === i ? 0 : !0 === i ? "" : i || "";
		}), e = O(function() {
			return !Array.isArray(o.value) && !r$2(o.value);
		}), u = x(function() {
			this.N = M;
			if (e.value) {
				var n = o.value;
				if (i.__v && i.__v.__e && 3 === i.__v.__e.nodeType) i.__v.__e.data = n;
			}
		}), c = n.__$u.d;
		n.__$u.d = function() {
			u();
			c.call(this);
		};
		return [e, o];
	}, []), u = e[0], c = e[1];
	return u.value ? c.peek() : c.value;
}
w.displayName = "ReactiveTextNode";
Object.defineProperties(l.prototype, {
	constructor: {
		configurable: !0,
		value: k$2($, null).constructor
	},
	type: {
		configurable: !0,
		value: w
	},
	props: {
		configurable: !0,
		get: function() {
			var i = this;
			return { data: { get value() {
				return i.value;
			} } };
		}
	},
	__b: {
		configurable: !0,
		value: 1
	}
});
b("__b", function(i, n) {
	y();
	if ("string" == typeof n.type) {
		var r, t = n.props;
		for (var f in t) if ("children" !== f) {
			var o = t[f];
			if (o instanceof l) {
				if (!r) n.__np = r = {};
				r[f] = o;
				t[f] = o.peek();
			}
		}
	}
	i(n);
});
b("__r", function(i, r) {
	i(r);
	if (r.type !== $) {
		y();
		var t, f = r.__c;
		if (f) {
			f.__$f &= -2;
			if (void 0 === (t = f.__$u)) f.__$u = t = function(i, n) {
				var r;
				x(function() {
					r = this;
				}, { name: n });
				r.c = i;
				return r;
			}(function(i) {
				return function() {
					var n;
					if (m) null == (n = this.y) || n.call(this);
					i.__$f |= 1;
					i.setState({});
				};
			}(f), "function" == typeof r.type ? r.type.displayName || r.type.name : "");
		}
		y(t);
	}
});
b("__e", function(i, n, r, t) {
	y();
	i(n, r, t);
});
b("diffed", function(i, n) {
	y();
	var r;
	if ("string" == typeof n.type && (r = n.__e)) {
		var t = n.__np, f = n.props, o = r.U;
		if (o) for (var e in o) {
			var u = o[e];
			if (!(void 0 === u || t && e in t)) {
				u.d();
				o[e] = void 0;
			}
		}
		if (t) {
			if (!o) {
				o = {};
				r.U = o;
			}
			for (var a in t) {
				var c = o[a], v = t[a];
				if (void 0 === c) {
					c = k(r, a, v, f);
					o[a] = c;
				} else c.o(v, f);
			}
		}
	}
	i(n);
});
function k(i, n, r, t) {
	var f = n in i && void 0 === i.ownerSVGElement, o = y$1(r);
	return {
		o: function(i, n) {
			o.value = i;
			t = n;
		},
		d: x(function() {
			this.N = M;
			var r = o.value.value;
			if (t[n] !== r) {
				t[n] = r;
				if (f) i[n] = r;
				else if (null != r && (!1 !== r || "-" === n[4])) i.setAttribute(n, r);
				else i.removeAttribute(n);
			}
		})
	};
}
b("unmount", function(i, n) {
	if ("string" == typeof n.type) {
		var r = n.__e;
		if (r) {
			var t = r.U;
			if (t) {
				r.U = void 0;
				for (var f in t) {
					var o = t[f];
					if (o) o.d();
				}
			}
		}
		var e = n.__np;
		if (e) {
			var u = n.props;
			for (var a in e) u[a] = e[a];
		}
		n.__np = void 0;
	} else {
		var c = n.__c;
		if (c) {
			c.__$f |= 8;
			var v = c.__$u;
			if (v) {
				c.__$u = void 0;
				v.d();
			}
		}
	}
	i(n);
});
b("__h", function(i, n, r, t) {
	if (t < 3) n.__$f |= 2;
	i(n, r, t);
});
x$1.prototype.shouldComponentUpdate = function(i, n) {
	if (this.__R) return !0;
	var r = this.__$u, t = r && void 0 !== r.s;
	for (var f in n) return !0;
	if (this.__f || "boolean" == typeof this.u && !0 === this.u) {
		var o = 2 & this.__$f;
		if (!(t || o || 4 & this.__$f)) return !0;
		if (1 & this.__$f) return !0;
	} else {
		if (!(t || 4 & this.__$f)) return !0;
		if (3 & this.__$f) return !0;
	}
	for (var e in i) if ("__source" !== e && i[e] !== this.props[e]) return !0;
	for (var u in this.props) if (!(u in i)) return !0;
	return !1;
};
function useSignal(i, n) {
	return w$2(function() {
		return y$1(i, n);
	}, []);
}
var A = function(i) {
	queueMicrotask(function() {
		queueMicrotask(i);
	});
};
function F() {
	r(function() {
		var i;
		while (i = g.shift()) h.call(i);
	});
}
function M() {
	if (1 === g.push(this)) (n$1.requestAnimationFrame || A)(F);
}
// node_modules/eventsource-parser/dist/index.js
var ParseError = class extends Error {
	constructor(message, options) {
		super(message), this.name = "ParseError", this.type = options.type, this.field = options.field, this.value = options.value, this.line = options.line;
	}
};
var LF = 10;
var CR = 13;
var SPACE = 32;
function noop(_arg) {}
function createParser(config) {
	if (typeof config == "function") throw new TypeError("`config` must be an object, got a function instead. Did you mean `createParser({onEvent: fn})`?");
	const { onEvent = noop, onError = noop, onRetry = noop, onComment, maxBufferSize } = config, pendingFragments = [];
	let pendingFragmentsLength = 0, isFirstChunk = !0, id, data = "", dataLines = 0, eventType, terminated = !1;
	function feed(chunk) {
		if (terminated) throw new Error("Cannot feed parser: it was terminated after exceeding the configured max buffer size. Call `reset()` to resume parsing.");
		if (isFirstChunk && (isFirstChunk = !1, chunk.charCodeAt(0) === 239 && chunk.charCodeAt(1) === 187 && chunk.charCodeAt(2) === 191 && (chunk = chunk.slice(3))), pendingFragments.length === 0) {
			const trailing2 = processLines(chunk);
			trailing2 !== "" && (pendingFragments.push(trailing2), pendingFragmentsLength = trailing2.length), checkBufferSize();
			return;
		}
		if (chunk.indexOf(`
`) === -1 && chunk.indexOf("\r") === -1) {
			pendingFragments.push(chunk), pendingFragmentsLength += chunk.length, checkBufferSize();
			return;
		}
		pendingFragments.push(chunk);
		const input = pendingFragments.join("");
		pendingFragments.length = 0, pendingFragmentsLength = 0;
		const trailing = processLines(input);
		trailing !== "" && (pendingFragments.push(trailing), pendingFragmentsLength = trailing.length), checkBufferSize();
	}
	function checkBufferSize() {
		maxBufferSize !== void 0 && (pendingFragmentsLength + data.length <= maxBufferSize || (terminated = !0, pendingFragments.length = 0, pendingFragmentsLength = 0, id = void 0, data = "", dataLines = 0, eventType = void 0, onError(new ParseError(`Buffered data exceeded max buffer size of ${maxBufferSize} characters`, { type: "max-buffer-size-exceeded" }))));
	}
	function processLines(chunk) {
		let searchIndex = 0;
		if (chunk.indexOf("\r") === -1) {
			let lfIndex = chunk.indexOf(`
`, searchIndex);
			for (; lfIndex !== -1;) {
				if (searchIndex === lfIndex) {
					dataLines > 0 && onEvent({
						id,
						event: eventType,
						data
					}), id = void 0, data = "", dataLines = 0, eventType = void 0, searchIndex = lfIndex + 1, lfIndex = chunk.indexOf(`
`, searchIndex);
					continue;
				}
				const firstCharCode = chunk.charCodeAt(searchIndex);
				if (isDataPrefix(chunk, searchIndex, firstCharCode)) {
					const valueStart = chunk.charCodeAt(searchIndex + 5) === SPACE ? searchIndex + 6 : searchIndex + 5, value = chunk.slice(valueStart, lfIndex);
					if (dataLines === 0 && chunk.charCodeAt(lfIndex + 1) === LF) {
						onEvent({
							id,
							event: eventType,
							data: value
						}), id = void 0, data = "", eventType = void 0, searchIndex = lfIndex + 2, lfIndex = chunk.indexOf(`
`, searchIndex);
						continue;
					}
					data = dataLines === 0 ? value : `${data}
${value}`, dataLines++;
				} else isEventPrefix(chunk, searchIndex, firstCharCode) ? eventType = chunk.slice(chunk.charCodeAt(searchIndex + 6) === SPACE ? searchIndex + 7 : searchIndex + 6, lfIndex) || void 0 : parseLine(chunk, searchIndex, lfIndex);
				searchIndex = lfIndex + 1, lfIndex = chunk.indexOf(`
`, searchIndex);
			}
			return chunk.slice(searchIndex);
		}
		for (; searchIndex < chunk.length;) {
			const crIndex = chunk.indexOf("\r", searchIndex), lfIndex = chunk.indexOf(`
`, searchIndex);
			let lineEnd = -1;
			if (crIndex !== -1 && lfIndex !== -1 ? lineEnd = crIndex < lfIndex ? crIndex : lfIndex : crIndex !== -1 ? crIndex === chunk.length - 1 ? lineEnd = -1 : lineEnd = crIndex : lfIndex !== -1 && (lineEnd = lfIndex), lineEnd === -1) break;
			parseLine(chunk, searchIndex, lineEnd), searchIndex = lineEnd + 1, chunk.charCodeAt(searchIndex - 1) === CR && chunk.charCodeAt(searchIndex) === LF && searchIndex++;
		}
		return chunk.slice(searchIndex);
	}
	function parseLine(chunk, start, end) {
		if (start === end) {
			dispatchEvent();
			return;
		}
		const firstCharCode = chunk.charCodeAt(start);
		if (isDataPrefix(chunk, start, firstCharCode)) {
			const valueStart = chunk.charCodeAt(start + 5) === SPACE ? start + 6 : start + 5, value2 = chunk.slice(valueStart, end);
			data = dataLines === 0 ? value2 : `${data}
${value2}`, dataLines++;
			return;
		}
		if (isEventPrefix(chunk, start, firstCharCode)) {
			eventType = chunk.slice(chunk.charCodeAt(start + 6) === SPACE ? start + 7 : start + 6, end) || void 0;
			return;
		}
		if (firstCharCode === 105 && chunk.charCodeAt(start + 1) === 100 && chunk.charCodeAt(start + 2) === 58) {
			const value2 = chunk.slice(chunk.charCodeAt(start + 3) === SPACE ? start + 4 : start + 3, end);
			value2.includes("\0") || (id = value2);
			return;
		}
		if (firstCharCode === 58) {
			if (onComment) {
				const line2 = chunk.slice(start, end);
				onComment(line2.slice(chunk.charCodeAt(start + 1) === SPACE ? 2 : 1));
			}
			return;
		}
		const line = chunk.slice(start, end), fieldSeparatorIndex = line.indexOf(":");
		if (fieldSeparatorIndex === -1) {
			processField(line, "", line);
			return;
		}
		const field = line.slice(0, fieldSeparatorIndex), offset = line.charCodeAt(fieldSeparatorIndex + 1) === SPACE ? 2 : 1;
		processField(field, line.slice(fieldSeparatorIndex + offset), line);
	}
	function processField(field, value, line) {
		switch (field) {
			case "event":
				eventType = value || void 0;
				break;
			case "data":
				data = dataLines === 0 ? value : `${data}
${value}`, dataLines++;
				break;
			case "id":
				value.includes("\0") || (id = value);
				break;
			case "retry":
				/^\d+$/.test(value) ? onRetry(parseInt(value, 10)) : onError(new ParseError(`Invalid \`retry\` value: "${value}"`, {
					type: "invalid-retry",
					value,
					line
				}));
				break;
			default: onError(new ParseError(`Unknown field "${field.length > 20 ? `${field.slice(0, 20)}\u2026` : field}"`, {
				type: "unknown-field",
				field,
				value,
				line
			}));
		}
	}
	function dispatchEvent() {
		dataLines > 0 && onEvent({
			id,
			event: eventType,
			data
		}), id = void 0, data = "", dataLines = 0, eventType = void 0;
	}
	function reset(options = {}) {
		if (options.consume && pendingFragments.length > 0) {
			const incompleteLine = pendingFragments.join("");
			parseLine(incompleteLine, 0, incompleteLine.length);
		}
		isFirstChunk = !0, id = void 0, data = "", dataLines = 0, eventType = void 0, pendingFragments.length = 0, pendingFragmentsLength = 0, terminated = !1;
	}
	return {
		feed,
		reset
	};
}
function isDataPrefix(chunk, i, firstCharCode) {
	return firstCharCode === 100 && chunk.charCodeAt(i + 1) === 97 && chunk.charCodeAt(i + 2) === 116 && chunk.charCodeAt(i + 3) === 97 && chunk.charCodeAt(i + 4) === 58;
}
function isEventPrefix(chunk, i, firstCharCode) {
	return firstCharCode === 101 && chunk.charCodeAt(i + 1) === 118 && chunk.charCodeAt(i + 2) === 101 && chunk.charCodeAt(i + 3) === 110 && chunk.charCodeAt(i + 4) === 116 && chunk.charCodeAt(i + 5) === 58;
}
// node_modules/eventsource-parser/dist/stream.js
var EventSourceParserStream = class extends TransformStream {
	constructor({ onError, onRetry, onComment, maxBufferSize } = {}) {
		let parser;
		super({
			start(controller) {
				parser = createParser({
					onEvent: (event) => {
						controller.enqueue(event);
					},
					onError(error) {
						typeof onError == "function" && onError(error), (onError === "terminate" || error.type === "max-buffer-size-exceeded") && controller.error(error);
					},
					onRetry,
					onComment,
					maxBufferSize
				});
			},
			transform(chunk) {
				parser.feed(chunk);
			}
		});
	}
};
// src/api.ts
var ApiError = class extends Error {
	what;
	fix;
	code;
	status;
	retryAfter;
	constructor(what, fix, code, status, retryAfter = null) {
		super(what);
		this.what = what;
		this.fix = fix;
		this.code = code;
		this.status = status;
		this.retryAfter = retryAfter;
	}
};
var key = y$1("");
var offline = y$1(false);
async function send(request) {
	if (key.value) request.headers.set("authorization", `Bearer ${key.value}`);
	try {
		const answer = await fetch(request);
		offline.value = false;
		return answer;
	} catch (error) {
		if (request.signal.aborted) throw error;
		offline.value = true;
		throw new ApiError("the server does not answer", "start it again: trimtab play", "offline", 0);
	}
}
function method(name) {
	return async (path, { params = {}, body } = {}) => {
		const filled = path.replace(/\{(\w+)\}/g, (_, field) => encodeURIComponent(params.path[field]));
		const url = new URL(filled, location.origin);
		for (const [field, value] of Object.entries(params.query ?? {})) url.searchParams.set(field, value);
		const sent = body === void 0 ? {} : {
			body: JSON.stringify(body),
			headers: { "content-type": "application/json" }
		};
		const response = await send(new Request(url, {
			method: name,
			...sent
		}));
		const content = await response.json().catch(() => null);
		return response.ok ? {
			data: content,
			response
		} : {
			error: content,
			response
		};
	};
}
var api = Object.fromEntries([
	"GET",
	"POST",
	"PUT",
	"DELETE"
].map((name) => [name, method(name)]));
function unwrap(answer) {
	if (answer.response.ok) return answer.data;
	throw asApiError(answer.error, answer.response);
}
function asApiError(body, response) {
	const { error } = body ?? {};
	const retry = Number(response.headers.get("retry-after"));
	return new ApiError(error?.what ?? error?.message ?? `the server answers ${response.status}`, error?.fix ?? null, error?.code ?? "unknown", response.status, Number.isFinite(retry) && retry > 0 ? retry : null);
}
async function shipped(name) {
	const response = await send(new Request(new URL(name, document.baseURI)));
	if (!response.ok) throw asApiError(null, response);
	return await response.json();
}
async function* events(path, options) {
	const headers = {
		accept: "text/event-stream",
		...options.headers
	};
	if (options.body !== void 0) headers["content-type"] = "application/json";
	const response = await send(new Request(new URL(path, location.origin), {
		method: options.body === void 0 ? "GET" : "POST",
		body: options.body === void 0 ? null : JSON.stringify(options.body),
		headers,
		signal: options.signal
	}));
	if (!response.ok) throw asApiError(await response.json().catch(() => null), response);
	const reader = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()).getReader();
	try {
		for (;;) {
			const { done, value } = await reader.read().catch((error) => {
				if (options.signal.aborted) throw error;
				offline.value = true;
				throw new ApiError("the connection was lost", "the text so far is kept", "lost", 0);
			});
			if (done) return;
			yield {
				id: value.id,
				name: value.event,
				data: value.data
			};
		}
	} finally {
		reader.cancel().catch(() => void 0);
	}
}
function upload(path, file, onShare) {
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest();
		request.open("PUT", new URL(path, location.origin));
		request.setRequestHeader("content-type", "application/octet-stream");
		if (key.value) request.setRequestHeader("authorization", `Bearer ${key.value}`);
		request.upload.onprogress = (event) => onShare(event.lengthComputable ? event.loaded / event.total : 0);
		request.onerror = () => reject(new ApiError("the upload broke off", "try again", "offline", 0));
		request.onload = () => {
			if (request.status < 300) resolve();
			else reject(asApiError(asJson$1(request.responseText), new Response(null, { status: request.status })));
		};
		request.send(file);
	});
}
function asJson$1(text) {
	try {
		return JSON.parse(text);
	} catch {
		return null;
	}
}
async function saveFile(path, name) {
	const response = await send(new Request(new URL(path, location.origin)));
	if (!response.ok) throw asApiError(await response.json().catch(() => null), response);
	const link = document.createElement("a");
	link.href = URL.createObjectURL(await response.blob());
	link.download = name;
	link.click();
	URL.revokeObjectURL(link.href);
}
// src/charts/scale.ts
function ticks(low, high, most = 4) {
	if (!(high > low)) return [low];
	const rough = (high - low) / most;
	const power = 10 ** Math.floor(Math.log10(rough));
	const step = [
		1,
		2,
		5,
		10
	].map((times) => power * times).find((each) => each >= rough * .999) ?? power * 10;
	const found = [];
	for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
	return found;
}
function percent$1(value, low, high) {
	return 100 * (Math.min(Math.max(value, low), high) - low) / (high - low || 1);
}
function figure(value, digits = 3) {
	const rounded = Number(value.toPrecision(digits));
	return String(Math.abs(rounded) < 1e-9 ? 0 : rounded).replace("-", "−");
}
function change$1(value, digits = 3) {
	const written = figure(value, digits);
	return value > 0 && written !== "0" ? `+${written}` : written;
}
function duration(seconds) {
	if (seconds < 10) return "a few seconds";
	if (seconds < 55) return `${Math.round(seconds / 5) * 5} seconds`;
	const minutes = Math.round(seconds / 30) / 2;
	if (minutes < 10) return minutes === 1 ? "1 minute" : `${String(minutes).replace(".5", "½").replace(/^0½/, "½")} minutes`;
	return `${Math.round(minutes)} minutes`;
}
// src/charts/line-chart.tsx
var ROOM = .08;
function LineChart({ title, summary, points, zone, band, mark, from, height = 140 }) {
	if (points.length < 2) return null;
	const sorted = [...points].sort((a, b) => a.x - b.x);
	const xs = sorted.map((point) => point.x);
	const [left, right] = [Math.min(...xs), Math.max(...xs)];
	const values = sorted.flatMap((point) => [
		point.y,
		point.low ?? point.y,
		point.high ?? point.y
	]);
	if (from !== void 0) values.push(from);
	if (band) values.push(band.low, band.high);
	if (mark !== void 0) values.push(mark);
	const span = Math.max(...values) - Math.min(...values) || 1;
	const [low, high] = [Math.min(...values) - ROOM * span, Math.max(...values) + ROOM * span];
	const across = (x) => `${3 + .94 * percent$1(x, left, right)}%`;
	const up = (y) => `${100 - percent$1(y, low, high)}%`;
	return k$2("div", {
		class: "chart",
		role: "img",
		"aria-label": summary
	}, k$2("p", { class: "title" }, title), k$2("div", {
		class: "scale",
		style: { height: `${height}px` }
	}, ticks(low, high).map((tick) => k$2("span", {
		key: tick,
		style: { top: up(tick) }
	}, figure(tick)))), k$2("svg", {
		width: "100%",
		height
	}, zone && zone.high > zone.low && k$2("rect", {
		class: "zone",
		x: across(Math.max(zone.low, left)),
		width: `${.94 * (percent$1(zone.high, left, right) - percent$1(zone.low, left, right))}%`,
		y: "0",
		height: "100%"
	}), band && k$2("rect", {
		class: "chance",
		x: "0",
		width: "100%",
		y: up(band.high),
		height: `${percent$1(band.high, low, high) - percent$1(band.low, low, high)}%`
	}), ticks(low, high).map((tick) => k$2("line", {
		key: tick,
		class: "grid",
		x1: "0",
		x2: "100%",
		y1: up(tick),
		y2: up(tick)
	})), left < 0 && right > 0 && k$2("line", {
		class: "zero",
		x1: across(0),
		x2: across(0),
		y1: "0",
		y2: "100%"
	}), mark !== void 0 && k$2("line", {
		class: "mark",
		x1: "0",
		x2: "100%",
		y1: up(mark),
		y2: up(mark)
	}), sorted.slice(1).map((point, n) => k$2("line", {
		key: point.x,
		class: "line",
		x1: across(sorted[n].x),
		y1: up(sorted[n].y),
		x2: across(point.x),
		y2: up(point.y)
	})), sorted.map((point) => k$2(Dot, {
		key: point.x,
		point,
		across,
		up
	}))), k$2("div", { class: "strengths" }, labelled(xs, left, right).map((x) => k$2("span", {
		key: x,
		style: { left: across(x) }
	}, figure(x)))));
}
function Dot({ point, across, up }) {
	const [x, y] = [across(point.x), up(point.y)];
	return k$2("g", { class: `dot ${point.x > 0 ? "plus" : point.x < 0 ? "minus" : "base"}` }, point.low !== void 0 && point.high !== void 0 && k$2("line", {
		class: "whisker",
		x1: x,
		x2: x,
		y1: up(point.low),
		y2: up(point.high)
	}), point.broken ? k$2("text", {
		class: "broken",
		x,
		y,
		dy: "5",
		"text-anchor": "middle"
	}, "▲") : k$2("circle", {
		cx: x,
		cy: y,
		r: "4.5"
	}));
}
function labelled(xs, left, right) {
	const taken = [];
	const order = [...xs].sort((a, b) => Number(!Number.isInteger(a)) - Number(!Number.isInteger(b)) || Math.abs(a) - Math.abs(b));
	for (const x of order) if (taken.every((other) => Math.abs(other - x) > .11 * (right - left))) taken.push(x);
	return taken;
}
// src/charts/numbers.tsx
function Numbers({ caption, head, rows }) {
	return k$2("details", { class: "numbers" }, k$2("summary", null, "The same as numbers"), k$2("div", {
		class: "scroll",
		tabIndex: 0,
		role: "region",
		"aria-label": caption
	}, k$2("table", { class: "data" }, k$2("caption", { class: "vh" }, caption), k$2("thead", null, k$2("tr", null, head.map((each) => k$2("th", {
		key: each,
		scope: "col"
	}, each)))), k$2("tbody", null, rows.map(([first, ...others]) => k$2("tr", { key: first }, k$2("th", { scope: "row" }, first), others.map((each, n) => k$2("td", { key: n }, each))))))));
}
// src/state/announce.ts
var announced = y$1("");
function announce(text) {
	announced.value = announced.value === text ? `${text}\u00a0` : text;
}
// src/state/kept.ts
var WRITE_AFTER = 1e3;
var unwritten = new Map();
var timer$1;
function kept(name, initial, valid, smaller) {
	const place = `trimtab.${name}`;
	const found = y$1(read$1(place, initial, valid));
	let first = true;
	x(() => {
		const value = found.value;
		if (first) {
			first = false;
			return;
		}
		unwritten.set(place, () => {
			if (!write$1(place, value) && smaller) write$1(place, smaller(value));
		});
		timer$1 ??= setTimeout(writeAll, WRITE_AFTER);
	});
	return found;
}
function isKept(name) {
	try {
		return localStorage.getItem(`trimtab.${name}`) !== null;
	} catch {
		return false;
	}
}
function writeAll() {
	clearTimeout(timer$1);
	timer$1 = void 0;
	for (const each of unwritten.values()) each();
	unwritten.clear();
}
addEventListener("pagehide", writeAll);
document.addEventListener("visibilitychange", () => {
	if (document.visibilityState === "hidden") writeAll();
});
function write$1(place, value) {
	try {
		localStorage.setItem(place, JSON.stringify(value));
		return true;
	} catch {
		return false;
	}
}
function read$1(place, initial, valid) {
	try {
		const value = JSON.parse(localStorage.getItem(place) ?? "null");
		return valid(value) ? value : initial;
	} catch {
		return initial;
	}
}
function isString(value) {
	return typeof value === "string";
}
function isBoolean(value) {
	return typeof value === "boolean";
}
// src/state/server.ts
var FIRST_RETRY = 1e3;
var LAST_RETRY = 15e3;
var info = y$1(null);
var vectors = y$1([]);
var unusable = y$1({});
var needsKey = y$1(false);
var vectorOf = O(() => new Map(vectors.value.map((vector) => [vector.name, vector])));
async function refresh() {
	try {
		const [about, found] = await Promise.all([api.GET("/v1/info"), api.GET("/v1/vectors")]);
		info.value = unwrap(about);
		const list = unwrap(found);
		vectors.value = list.data;
		unusable.value = list.unusable;
		needsKey.value = false;
	} catch (error) {
		if (!(error instanceof ApiError)) throw error;
		needsKey.value = error.status === 401;
	}
}
var wait = FIRST_RETRY;
offline.subscribe((off) => {
	if (!off) {
		wait = FIRST_RETRY;
		return;
	}
	const ask = () => {
		if (!offline.value) return;
		wait = Math.min(wait * 1.5, LAST_RETRY);
		refresh().then(() => offline.value && setTimeout(ask, wait));
	};
	setTimeout(ask, wait);
});
// src/state/words.ts
var LEVELS = [
	{
		upto: .3,
		word: "gentle"
	},
	{
		upto: .6,
		word: "clear"
	},
	{
		upto: 1.1,
		word: "strong"
	}
];
function strengthWord(kl) {
	return LEVELS.find(({ upto }) => kl < upto)?.word ?? "text breaks";
}
function nats(kl) {
	return kl === 0 ? "0 nat" : `${kl.toFixed(2)} nat, ${strengthWord(kl)}`;
}
function shareWords(cosine) {
	const size = Math.abs(cosine);
	const much = size < .05 ? "nothing" : size < .3 ? "a little" : size < .6 ? "much" : "nearly all";
	if (much === "nothing") return "share nothing";
	return cosine > 0 ? `share ${much}` : `oppose each other ${much === "nearly all" ? "almost wholly" : much === "much" ? "much" : "a little"}`;
}
function tidy(strength) {
	return Math.round(strength * 1e3) / 1e3;
}
function signed(value, digits = 3) {
	const rounded = Number(value.toFixed(digits));
	return rounded > 0 ? `+${rounded}` : rounded < 0 ? `−${-rounded}` : "0";
}
function percent(logprob) {
	const share = 100 * Math.exp(logprob);
	return `${share >= 10 ? share.toFixed(0) : share >= .1 ? share.toFixed(1) : "< 0.1"} %`;
}
function distinctShare(text) {
	const words = text.trim().split(/\s+/);
	const runs = words.slice(2).map((_, at) => words.slice(at, at + 3).join(" "));
	return runs.length ? new Set(runs).size / runs.length : 1;
}
function countWords(text) {
	return text.trim() ? text.trim().split(/\s+/).length : 0;
}
// src/state/dials.ts
var MAX_STRENGTH = 1.5;
var STEP = .05;
var dials = kept("dials", [{
	name: "happy",
	strength: .5,
	on: true
}], isDials);
var narrowed = y$1({});
function safeOf(vector) {
	if (!vector) return null;
	const mine = narrowed.value[vector.name];
	const measured = vector.safe;
	if (!mine || !measured) return mine ?? measured;
	return {
		low: Math.max(mine.low, measured.low),
		high: Math.min(mine.high, measured.high),
		why: mine.why
	};
}
function isInside(strength, range) {
	return range === null || strength >= range.low && strength <= range.high;
}
function mixText(mix, factor = 1) {
	return mix.filter((dial) => dial.on && (dial.text !== void 0 || dial.strength !== 0)).map((dial) => dial.text ?? `${dial.name}:${tidy(dial.strength * factor)}`).join(" + ") || "none";
}
function usable(mix) {
	return mix.filter((dial) => vectorOf.value.has(dial.name) || info.value === null);
}
var text = O(() => mixText(usable(dials.value)));
var check = y$1(null);
function klOf(dial) {
	if (!dial.on || dial.strength === 0 && dial.text === void 0) return 0;
	const wanted = dial.text ?? `${dial.name}:${tidy(dial.strength)}`;
	return check.value?.terms.find((term) => term.text === wanted)?.kl ?? null;
}
function turn(at, change) {
	dials.value = dials.value.map((dial, n) => n === at ? {
		...dial,
		...change
	} : dial);
}
function setStrength(name, strength) {
	add(name);
	dials.value = dials.value.map((dial) => dial.name === name && dial.text === void 0 ? {
		...dial,
		strength,
		on: true
	} : dial);
}
function add(name) {
	if (dials.value.some((dial) => dial.name === name && dial.text === void 0)) return;
	const strength = vectorOf.value.get(name)?.default_strength ?? .5;
	dials.value = [...dials.value, {
		name,
		strength,
		on: true
	}];
}
function remove(at) {
	dials.value = dials.value.filter((_, n) => n !== at);
}
async function checked(written) {
	return unwrap(await api.POST("/v1/steering/check", { body: { steering: written } }));
}
async function take(written) {
	const answer = await checked(written);
	if (answer.ok) {
		const names = new Set();
		dials.value = answer.terms.map((term) => {
			const turns = term.operator === "add" && term.strength !== null && term.text === `${term.vector}:${tidy(term.strength)}` && !names.has(term.vector) && Math.abs(term.strength) <= 1.5;
			if (turns) names.add(term.vector);
			return {
				name: term.vector,
				strength: term.strength ?? 0,
				on: true,
				...turns ? {} : { text: term.text }
			};
		});
	}
	return answer;
}
var asked$1 = 0;
x(() => {
	const written = text.value;
	const known = info.value !== null;
	const number = ++asked$1;
	if (!known) return;
	setTimeout(() => {
		if (number !== asked$1) return;
		checked(written).then((answer) => {
			if (number === asked$1) check.value = answer;
		}, () => void 0);
	}, 120);
});
function isDials(value) {
	return Array.isArray(value) && value.every((dial) => typeof dial?.name === "string" && typeof dial.strength === "number" && typeof dial.on === "boolean");
}
// src/state/jobs.ts
var WAITING_MS = 2e3;
var jobs = y$1([]);
var dismissed = kept("dismissed", [], isNames);
function dismiss(id) {
	dismissed.value = [...dismissed.value.slice(-200), id];
}
function nameOf(job) {
	return "name" in job.fields ? job.fields.name : job.fields.vector;
}
function hasEnded(job) {
	return job.status !== "queued" && job.status !== "running";
}
async function findJobs() {
	const list = unwrap(await api.GET("/v1/jobs")).data;
	jobs.value = list;
	for (const job of list) if (!hasEnded(job)) follow(job);
}
async function begin(fields) {
	const job = unwrap(await api.POST("/v1/jobs", { body: fields }));
	follow(job);
	return job;
}
async function trainBehaviour(name) {
	await begin({
		kind: "train",
		name,
		behaviour: name,
		effort: "default",
		seed: 0,
		overwrite: false
	});
	location.hash = "make";
}
async function halt(id) {
	put(unwrap(await api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } } })));
}
async function resume(id) {
	follow(unwrap(await api.POST("/v1/jobs/{job_id}/resume", { params: { path: { job_id: id } } })));
}
async function reread(id) {
	const job = unwrap(await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
	put(job);
	return job;
}
var following = new Set();
function follow(job) {
	put(job);
	if (following.has(job.id)) return;
	following.add(job.id);
	listen(job.id).finally(() => following.delete(job.id));
}
async function listen(id) {
	let last = "";
	for (let tries = 0;;) try {
		let job = await reread(id);
		tries = 0;
		if (hasEnded(job)) break;
		if (job.status === "queued") {
			await pause$1(WAITING_MS);
			continue;
		}
		const headers = last ? { "last-event-id": last } : {};
		for await (const event of events(`/v1/jobs/${id}/events`, {
			headers,
			signal: new AbortController().signal
		})) {
			last = event.id ?? last;
			if (stale$1(event.name)) job = await reread(id);
			if (hasEnded(job)) break;
		}
	} catch (error) {
		if (!(error instanceof ApiError) || error.status === 404) return;
		await pause$1(Math.min(500 * 2 ** tries++, 1e4));
	}
	const job = jobs.value.find((each) => each.id === id);
	if (job && job.kind !== "sweep") announce(`${nameOf(job)}: ${ENDS[job.status] ?? job.status}`);
	await refresh();
}
var ENDS = {
	done: "ready",
	stopped: "stopped",
	failed: "failed"
};
var readAt = 0;
function stale$1(event) {
	const now = performance.now();
	if (event === "progress" && now - readAt < 200) return false;
	readAt = now;
	return true;
}
function pause$1(ms) {
	return new Promise((resolve) => setTimeout(resolve, ms));
}
function put(job) {
	jobs.value = [job, ...jobs.value.filter((each) => each.id !== job.id)].sort((a, b) => b.created - a.created);
}
function findingsOf(job, kind) {
	return (job.findings ?? []).filter((each) => each.kind === kind);
}
function isNames(value) {
	return Array.isArray(value) && value.every((each) => typeof each === "string");
}
// src/state/open.ts
var breaksOf = y$1(null);
var codeOpen = y$1(false);
var keysOpen = y$1(false);
var presetOpen = y$1(false);
function openBreaks(name) {
	breaksOf.value = name;
}
function openCode() {
	codeOpen.value = true;
}
function openCard(name) {
	location.hash = `library/${encodeURIComponent(name)}`;
}
// src/state/talk.ts
var COLUMNS$1 = [
	"plain",
	"steered",
	"opposite",
	"prompt"
];
var TITLES = {
	plain: "As it is",
	steered: "Steered",
	opposite: "The other way",
	prompt: "System prompt instead"
};
var firstVisit = !isKept("turns");
var turns = kept("turns", [], isTurns, withoutAlternatives);
var shown$2 = kept("columns", [
	"plain",
	"steered",
	"opposite"
], isColumns);
var sampling = kept("sampling", {
	maxTokens: 64,
	temperature: 0,
	seed: 0
}, isSampling);
var systemPrompt = kept("system", "", isString);
var colourBy = kept("colour", "happy", isString);
var live = kept("live", false, isBoolean);
var draft$1 = kept("draft", "", isString);
var since = kept("since", 0, (value) => typeof value === "number");
if (turns.value.length) turns.value = turns.value.map((turn) => ({
	...turn,
	answers: mapAnswers(turn.answers, (answer) => answer.status === "waiting" || answer.status === "streaming" ? {
		...answer,
		status: "lost",
		retryAt: null,
		error: {
			what: "the page was closed",
			fix: null,
			code: "closed"
		}
	} : answer)
}));
function textOf(answer) {
	return answer.tokens.map((token) => token.thought ? "" : token.text).join("");
}
function pickedOf(turn, column) {
	const answers = turn.answers[column];
	return answers?.[turn.picked[column] ?? 0] ?? answers?.[0];
}
var promptText = O(() => {
	if (systemPrompt.value) return systemPrompt.value;
	const strongest = usable(dials.value).filter((dial) => dial.on && dial.strength !== 0).toSorted((a, b) => Math.abs(b.strength) - Math.abs(a.strength))[0];
	return `You are extremely ${(strongest && vectorOf.value.get(strongest.name)?.poles)?.[strongest.strength > 0 ? "+" : "-"] ?? strongest?.name ?? "helpful"}.`;
});
function asksFor(column, mix) {
	if (column === "prompt") return {
		steering: "none",
		system: promptText.value
	};
	const factor = {
		plain: 0,
		steered: 1,
		opposite: -1
	}[column];
	return {
		steering: factor === 0 ? "none" : mixText(usable(mix), factor),
		system: null
	};
}
function isStale(turn, column) {
	const answer = pickedOf(turn, column);
	if (!answer) return false;
	const last = turn === turns.value.at(-1);
	if (column === "prompt" && !last) return false;
	const { steering, system } = asksFor(column, last ? dials.value : turn.dials);
	return answer.steering !== steering || answer.system !== system;
}
var stale = O(() => {
	const last = turns.value.at(-1);
	return last !== void 0 && shown$2.value.some((column) => isStale(last, column));
});
function messagesOf(column, id, system) {
	const messages = system ? [{
		role: "system",
		content: system
	}] : [];
	for (const turn of turns.value) {
		if (turn.id < since.value) continue;
		messages.push({
			role: "user",
			content: turn.user
		});
		if (turn.id === id) break;
		const given = pickedOf(turn, column) ?? pickedOf(turn, "plain");
		if (given) messages.push({
			role: "assistant",
			content: textOf(given)
		});
	}
	return messages;
}
function changeTurn(id, change) {
	turns.value = turns.value.map((turn) => turn.id === id ? change(turn) : turn);
}
function pick(id, column, number) {
	changeTurn(id, (turn) => ({
		...turn,
		picked: {
			...turn.picked,
			[column]: number
		}
	}));
}
function turnOf(id, name, strength) {
	changeTurn(id, (turn) => ({
		...turn,
		dials: turn.dials.some((dial) => dial.name === name) ? turn.dials.map((dial) => dial.name === name ? {
			...dial,
			strength,
			on: true
		} : dial) : [...turn.dials, {
			name,
			strength,
			on: true
		}]
	}));
}
function setShown(column, on) {
	const wanted = new Set(shown$2.value);
	if (on) wanted.add(column);
	else wanted.delete(column);
	shown$2.value = COLUMNS$1.filter((each) => wanted.has(each));
}
function forgetFirst() {
	const known = turns.value.filter((turn) => turn.id >= since.value);
	if (known.length > 1) since.value = known[1].id;
}
function mapAnswers(answers, change) {
	return Object.fromEntries(Object.entries(answers).map(([column, list]) => [column, list.map(change)]));
}
function withoutAlternatives(all) {
	const slim = (answer) => ({
		...answer,
		tokens: answer.tokens.map((token) => ({
			...token,
			others: []
		}))
	});
	return all.map((turn) => ({
		...turn,
		answers: mapAnswers(turn.answers, slim)
	}));
}
function isColumns(value) {
	return Array.isArray(value) && value.length > 0 && value.every((column) => COLUMNS$1.includes(column));
}
function isSampling(value) {
	const given = value;
	return typeof given?.maxTokens === "number" && typeof given.temperature === "number" && typeof given.seed === "number";
}
function isTurns(value) {
	return Array.isArray(value) && value.every((turn) => typeof turn?.user === "string" && typeof turn.picked === "object" && Array.isArray(turn.dials) && Object.values(turn.answers ?? { none: 0 }).every(Array.isArray));
}
// src/parts/dialog.tsx
function Dialog({ title, wide, onClose, children }) {
	const dialog = T(null);
	const heading = P();
	A$1(() => {
		const before = document.activeElement;
		dialog.current?.showModal();
		return () => {
			if (before instanceof HTMLElement && before.isConnected) before.focus();
		};
	}, []);
	return k$2("dialog", {
		ref: dialog,
		class: wide ? "wide" : "",
		"aria-labelledby": heading,
		onClose,
		onClick: (event) => {
			if (event.target === event.currentTarget) onClose();
		}
	}, k$2("header", null, k$2("h2", { id: heading }, title), k$2("button", {
		type: "button",
		onClick: onClose
	}, "Close")), k$2("div", { class: "body" }, children));
}
// src/parts/notice.tsx
function Problem({ error, children }) {
	const { what, fix } = asProblem(error);
	return k$2("div", {
		class: "notice bad",
		role: "alert"
	}, k$2("p", null, k$2("strong", null, sentence$1(what)), " ", fix && sentence$1(fix)), children && k$2("p", { class: "row" }, children));
}
function asProblem(error) {
	if (error instanceof ApiError) return error;
	if (typeof error === "object" && error && "what" in error) return error;
	return {
		what: error instanceof Error ? error.message : String(error),
		fix: null
	};
}
function sentence$1(words) {
	const text = words.trim();
	return text && text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}
// src/parts/breaks.tsx
var STRENGTHS = [
	-1.5,
	-1,
	-.5,
	0,
	.5,
	1,
	1.5
];
var TOKENS = 60;
var EXAMPLE = "I would like two cheeseburgers and a coke, please.";
var sweep = y$1(null);
function Breaks() {
	const name = breaksOf.value;
	return name === null ? null : k$2(Opened$1, {
		key: name,
		name
	});
}
function Opened$1({ name }) {
	const [prompt, setPrompt] = d$2(() => turns.value.at(-1)?.user ?? EXAMPLE);
	const [error, setError] = d$2(null);
	const safe = vectorOf.value.get(name)?.safe ?? null;
	const job = sweep.value?.name === name ? jobs.value.find((each) => each.id === sweep.value?.id) : void 0;
	const rows = job ? findingsOf(job, "strength") : [];
	const running = job !== void 0 && !hasEnded(job);
	const done = job?.status === "done";
	A$1(() => {
		if (!done) return;
		const usable = usableRange(rows);
		narrow(name, rows, safe);
		announce(`Answered at ${rows.length} strengths. ${verdict(usable)}`);
	}, [done]);
	const run = async () => {
		setError(null);
		try {
			sweep.value = {
				id: (await begin({
					kind: "sweep",
					vector: name,
					prompt,
					strengths: STRENGTHS,
					max_tokens: TOKENS,
					kl: true
				})).id,
				name
			};
		} catch (problem) {
			setError(problem);
		}
	};
	return k$2(Dialog, {
		title: `Where ${name} breaks`,
		wide: true,
		onClose: () => breaksOf.value = null
	}, k$2("div", { class: "stack" }, k$2("form", {
		class: "stack tight",
		onSubmit: (event) => {
			event.preventDefault();
			run();
		}
	}, k$2("label", { class: "field" }, k$2("span", { class: "label" }, "Message"), k$2("textarea", {
		rows: 2,
		value: prompt,
		maxLength: 2e4,
		required: true,
		onInput: (event) => setPrompt(event.currentTarget.value)
	})), k$2("div", { class: "row" }, k$2("button", {
		class: "go",
		disabled: running || !prompt.trim()
	}, "Answer at ", STRENGTHS.length, " strengths"), running && k$2("button", {
		type: "button",
		onClick: () => job && void halt(job.id)
	}, "Stop"), k$2("span", { class: "hint" }, safe ? `Card: safe from ${signed(safe.low)} to ${signed(safe.high)}` : "No safe range was measured"))), error !== null && k$2(Problem, { error }), job?.error && k$2(Problem, { error: job.error }), running && k$2("progress", {
		"aria-label": "Strengths answered",
		max: STRENGTHS.length,
		value: rows.length
	}), rows.length > 0 && k$2(Rows, {
		name,
		rows,
		safe,
		waiting: running
	}), done && k$2("p", null, k$2("strong", null, verdict(usableRange(rows))), " ", narrowed.value[name] && "The zone on the dial is narrowed to this for now."), rows.length > 1 && k$2(Charts, {
		rows,
		safe
	})));
}
function Rows({ name, rows, safe, waiting }) {
	const suggested = waiting ? null : suggestion(rows, safe);
	return k$2("ol", {
		class: "strength-rows",
		"aria-label": "Answers by strength"
	}, rows.map((row) => k$2("li", {
		key: row.strength,
		class: row.usable ? "" : "unusable"
	}, k$2("p", { class: "head" }, k$2("strong", { class: "number" }, signed(row.strength)), row.usable ? k$2("span", null, "ok") : k$2("span", { class: "warn" }, "▲ ", row.loops ? "repeats itself" : "no answer"), k$2("span", { class: "soft small" }, row.kl === null ? "" : `${figure(row.kl, 2)} nat`, " · ", Math.round(100 * row.distinct), " % distinct"), row.strength === suggested && k$2("span", { class: "tag" }, "suggested")), k$2("p", { class: "said" }, row.text.trim() || "(no answer)"), k$2("button", {
		type: "button",
		onClick: () => setDial(name, row.strength)
	}, "Set the dial to ", signed(row.strength)))));
}
function Charts({ rows, safe }) {
	const spent = rows.filter((row) => row.kl !== null);
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Measures by strength"
	}, k$2("div", { class: "pair" }, k$2(LineChart, {
		title: "KL, nat per token",
		summary: `KL by strength: ${spent.map((row) => `${signed(row.strength)}: ${figure(row.kl ?? 0, 2)}`).join(", ")}`,
		points: spent.map((row) => ({
			x: row.strength,
			y: row.kl ?? 0,
			broken: !row.usable
		})),
		zone: safe,
		from: 0
	}), k$2(LineChart, {
		title: "Distinct three-word groups, %; dashed: below 75 % text repeats itself",
		summary: `Distinct three-word groups by strength: ${rows.map((row) => `${signed(row.strength)}: ${Math.round(100 * row.distinct)} %`).join(", ")}`,
		points: rows.map((row) => ({
			x: row.strength,
			y: 100 * row.distinct,
			broken: !row.usable
		})),
		zone: safe,
		mark: 75
	})), k$2("p", { class: "hint" }, "▲ marks strengths whose answer is not usable. The shaded part is the card's safe range."), k$2(Numbers, {
		caption: "Measures by strength",
		head: [
			"Strength",
			"KL, nat per token",
			"Distinct, %",
			"Usable"
		],
		rows: rows.map((row) => [
			signed(row.strength),
			row.kl === null ? "–" : figure(row.kl),
			figure(100 * row.distinct),
			row.usable ? "yes" : "no"
		])
	}));
}
function setDial(name, strength) {
	setStrength(name, strength);
	breaksOf.value = null;
	location.hash = "try";
	announce(`${name} is set to ${signed(strength)}`);
}
function usableRange(rows) {
	const sorted = [...rows].sort((a, b) => a.strength - b.strength);
	const middle = sorted.findIndex((row) => row.strength === 0);
	if (!sorted[middle]?.usable) return null;
	let [first, last] = [middle, middle];
	while (sorted[first - 1]?.usable) first--;
	while (sorted[last + 1]?.usable) last++;
	return {
		low: sorted[first].strength,
		high: sorted[last].strength
	};
}
function narrow(name, rows, safe) {
	const usable = usableRange(rows);
	if (!usable) return;
	const card = safe ?? {
		low: -1.5,
		high: 1.5
	};
	const broken = rows.filter((row) => !row.usable && row.strength >= card.low && row.strength <= card.high);
	if (!broken.length) return;
	const low = broken.some((row) => row.strength < 0) ? usable.low : card.low;
	const high = broken.some((row) => row.strength > 0) ? usable.high : card.high;
	narrowed.value = {
		...narrowed.value,
		[name]: {
			low,
			high,
			why: "answers to your message repeat themselves or are empty beyond"
		}
	};
}
function verdict(usable) {
	if (!usable) return "The answer is not usable even without steering, so this message says nothing about the vector.";
	const [least, most] = [STRENGTHS[0], STRENGTHS.at(-1)];
	if (usable.low === least && usable.high === most) return "On this message no strength breaks.";
	return `On this message answers hold together from ${signed(usable.low)} to ${signed(usable.high)}.`;
}
function suggestion(rows, safe) {
	const usable = usableRange(rows);
	if (!usable) return null;
	const within = rows.map((row) => row.strength).filter((strength) => strength > 0 && strength <= Math.min(usable.high, safe?.high ?? Infinity));
	return within.length ? Math.max(...within) : null;
}
// src/state/keys.ts
var placeKeys = y$1([]);
var lettersOn = kept("letters", true, isBoolean);
var everywhere = [{
	key: "c",
	does: "Code for your application",
	run: openCode
}, {
	key: "?",
	does: "This list",
	run: () => keysOpen.value = true
}];
function shortcuts() {
	return [...placeKeys.value, ...everywhere];
}
function listenForKeys() {
	addEventListener("keydown", (event) => {
		if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
		if (event.key !== "Escape" && (!lettersOn.value || takesText(event.target))) return;
		if (document.querySelector("dialog[open]")) return;
		const found = shortcuts().find((shortcut) => shortcut.key === (event.key.length === 1 ? event.key.toLowerCase() : event.key));
		if (!found) return;
		event.preventDefault();
		found.run();
	});
}
function takesText(target) {
	if (target instanceof HTMLInputElement) return ![
		"checkbox",
		"radio",
		"button",
		"range"
	].includes(target.type);
	return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}
// src/parts/keys.tsx
var NAMES = { Escape: "Esc" };
function Keys() {
	if (!keysOpen.value) return null;
	return k$2(Dialog, {
		title: "Keys",
		onClose: () => keysOpen.value = false
	}, k$2("div", { class: "stack" }, k$2("table", { class: "data" }, k$2("thead", null, k$2("tr", null, k$2("th", { scope: "col" }, "Key"), k$2("th", { scope: "col" }, "Does"))), k$2("tbody", null, shortcuts().map(({ key, does }) => k$2("tr", { key }, k$2("td", null, k$2("kbd", null, NAMES[key] ?? key.toUpperCase())), k$2("td", null, does))), k$2("tr", null, k$2("td", null, k$2("kbd", null, "Ctrl"), " or ", k$2("kbd", null, "⌘"), " with ", k$2("kbd", null, "Enter")), k$2("td", null, "Send the message")), k$2("tr", null, k$2("td", null, k$2("kbd", null, "←"), " ", k$2("kbd", null, "→"), ", ", k$2("kbd", null, "Page Up"), " ", k$2("kbd", null, "Page Down")), k$2("td", null, "Turn a dial by 0.05, by 0.25")), k$2("tr", null, k$2("td", null, k$2("kbd", null, "Home"), " ", k$2("kbd", null, "End"), ", ", k$2("kbd", null, "0")), k$2("td", null, "Turn a dial to the ends of its safe range, to 0")))), k$2("label", { class: "check" }, k$2("input", {
		type: "checkbox",
		checked: lettersOn.value,
		onChange: (event) => lettersOn.value = event.currentTarget.checked
	}), "Single letters are shortcuts")));
}
// src/state/presets.ts
var presets = y$1([]);
async function findPresets() {
	presets.value = unwrap(await api.GET("/v1/presets")).data;
}
// src/parts/save-preset.tsx
var NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]*";
function SavePreset() {
	return presetOpen.value ? k$2(Form, null) : null;
}
function Form() {
	const name = useSignal("");
	const system = useSignal("");
	const withSampling = useSignal(false);
	const error = useSignal(null);
	const saved = useSignal(null);
	const exists = useSignal(false);
	const close = () => presetOpen.value = false;
	const fixed = info.value?.capabilities.edits_presets === false;
	const save = async (overwrite) => {
		error.value = null;
		exists.value = false;
		const path = { name: name.value };
		try {
			if (!overwrite) {
				await findPresets();
				exists.value = presets.value.some((preset) => preset.name === name.value);
				if (exists.value) return;
			}
			const { maxTokens, temperature, seed } = sampling.value;
			const body = {
				steering: text.value,
				...system.value.trim() ? { system: system.value.trim() } : {},
				...withSampling.value ? { defaults: {
					max_tokens: maxTokens,
					temperature,
					seed
				} } : {}
			};
			const reply = unwrap(await api.PUT("/v1/presets/{name}", {
				params: { path },
				body
			}));
			if (reply.usable) saved.value = reply.model;
			else error.value = new ApiError(reply.problem ?? "the preset cannot be used with this model", "change its steering", "unusable", 400);
			Promise.all([refresh(), findPresets()]);
		} catch (problem) {
			error.value = problem;
		}
	};
	const needsKey = error.value instanceof ApiError && [401, 403].includes(error.value.status);
	return k$2(Dialog, {
		title: "Save as preset",
		onClose: close
	}, fixed ? k$2("p", null, "The presets of this server cannot be edited here. Edit them where it is started.") : saved.value ? k$2("div", { class: "stack" }, k$2("p", { role: "status" }, "Saved. Any client of this server can use it as its model: ", k$2("code", null, saved.value)), k$2("p", null, k$2("button", {
		type: "button",
		class: "go",
		onClick: close
	}, "Done"))) : k$2("form", {
		class: "stack",
		onSubmit: (event) => {
			event.preventDefault();
			save(false);
		}
	}, k$2("p", null, "Steering: ", k$2("code", null, text.value)), k$2("div", { class: "field" }, k$2("label", { for: "preset-name" }, "Name"), k$2("input", {
		id: "preset-name",
		required: true,
		pattern: NAME,
		maxLength: 64,
		autocomplete: "off",
		value: name.value,
		onInput: (event) => {
			name.value = event.currentTarget.value;
			exists.value = false;
		}
	}), k$2("span", { class: "hint" }, "Letters, digits, dots, dashes and underscores")), k$2("div", { class: "field" }, k$2("label", { for: "preset-system" }, "Opening of the system prompt, if it is to have one"), k$2("textarea", {
		id: "preset-system",
		rows: 2,
		value: system.value,
		onInput: (event) => system.value = event.currentTarget.value
	})), k$2("label", { class: "check" }, k$2("input", {
		type: "checkbox",
		checked: withSampling.value,
		onChange: (event) => withSampling.value = event.currentTarget.checked
	}), "With length, temperature and seed as they are now"), needsKey && k$2("div", { class: "field" }, k$2("label", { for: "preset-key" }, "Key that may manage the server; it is kept until you close the page"), k$2("input", {
		id: "preset-key",
		type: "password",
		autocomplete: "off",
		value: key.value,
		onInput: (event) => key.value = event.currentTarget.value
	})), error.value !== null && k$2(Problem, { error: error.value }), exists.value && k$2("div", {
		class: "notice bad",
		role: "alert"
	}, k$2("p", null, "There is a preset of this name. ", k$2("button", {
		type: "button",
		onClick: () => void save(true)
	}, "Replace it"))), k$2("p", { class: "row" }, k$2("button", { class: "go" }, "Save"), k$2("button", {
		type: "button",
		onClick: close
	}, "Cancel"))));
}
// src/parts/snippets.ts
var QUESTION$1 = "How was your day?";
function snippets(use) {
	return [
		{
			id: "curl",
			title: "curl",
			note: "Any HTTP client will do: the steering is one more field of the body.",
			code: curl(use)
		},
		{
			id: "python-openai",
			title: "Python (openai)",
			note: "Needs the package openai.",
			code: pythonOpenai(use)
		},
		{
			id: "python-trimtab",
			title: "Python (trimtab)",
			note: "Without a server: the model runs in your program.",
			code: pythonTrimtab(use)
		},
		{
			id: "js-openai",
			title: "JavaScript (openai)",
			note: "Needs the package openai. In TypeScript put // @ts-expect-error above the steering.",
			code: jsOpenai(use)
		},
		{
			id: "litellm",
			title: "LiteLLM",
			note: "Needs the package litellm.",
			code: litellm(use)
		},
		{
			id: "cli",
			title: "Command line",
			note: "Without a server. On Windows, write the quotes as your shell wants them.",
			code: cli(use)
		},
		{
			id: "model-name",
			title: "As a model name",
			note: "For Open WebUI, SillyTavern, n8n and whatever else can only choose a model.",
			code: modelName(use)
		}
	];
}
function curl({ address, model, steering }) {
	const body = `{
  "model": ${quoted(model)},
  "messages": [{"role": "user", "content": ${quoted(QUESTION$1)}}],
  "max_tokens": 40,
  "temperature": 0,
  "steering": ${quoted(steering)}
}`;
	return `curl -s ${shell(`${address}/v1/chat/completions`)} -H 'content-type: application/json' -d ${shell(body)}`;
}
function pythonOpenai({ address, model, steering }) {
	return `from openai import OpenAI

client = OpenAI(base_url=${quoted(`${address}/v1`)}, api_key="none")
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": ${quoted(QUESTION$1)}}],
    max_tokens=40,
    temperature=0,
    extra_body={"steering": ${quoted(steering)}},
)
print(answer.choices[0].message.content)`;
}
function pythonTrimtab({ model, steering }) {
	const steered = steering === "none" ? "" : `, steering=${quoted(steering)}`;
	return `import trimtab

model = trimtab.load(${model === "smollm2" ? "" : quoted(model)})
answer = model.generate(${quoted(QUESTION$1)}${steered}, max_new_tokens=40)
print(answer.text)
print(answer.receipt)`;
}
function jsOpenai({ address, model, steering }) {
	return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${address}/v1`)}, apiKey: "none" });
const answer = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: "user", content: ${quoted(QUESTION$1)} }],
  max_tokens: 40,
  temperature: 0,
  steering: ${quoted(steering)},
});
console.log(answer.choices[0].message.content);`;
}
function litellm({ address, model, steering }) {
	return `import litellm

answer = litellm.completion(
    model=${quoted(`openai/${model}`)},
    api_base=${quoted(`${address}/v1`)},
    api_key="none",
    messages=[{"role": "user", "content": ${quoted(QUESTION$1)}}],
    max_tokens=40,
    temperature=0,
    extra_body={"steering": ${quoted(steering)}},
)
print(answer.choices[0].message.content)`;
}
function cli({ model, steering }) {
	const parts = ["trimtab generate", shell(QUESTION$1)];
	if (steering !== "none") parts.push(`--steer ${shell(steering)}`);
	if (model !== "smollm2") parts.push(`--model ${shell(model)}`);
	return [...parts, "--max-new-tokens 40"].join(" ");
}
function modelName({ address, model, preset }) {
	if (preset === null) return null;
	const body = `{
  "model": ${quoted(`${model}:${preset}`)},
  "messages": [{"role": "user", "content": ${quoted(QUESTION$1)}}],
  "max_tokens": 40,
  "temperature": 0
}`;
	return `# In the settings of the application:
#   base URL  ${address}/v1
#   API key   none
#   model     ${model}:${preset}
curl -s ${shell(`${address}/v1/chat/completions`)} -H 'content-type: application/json' -d ${shell(body)}`;
}
function quoted(text) {
	return JSON.stringify(text);
}
function shell(text) {
	return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
// src/parts/use.tsx
var tab = y$1("curl");
function UseInApp() {
	return codeOpen.value ? k$2(Opened, null) : null;
}
function Opened() {
	A$1(() => {
		if (!presetOpen.value) findPresets().catch(() => void 0);
	}, [presetOpen.value]);
	const same = presets.value.filter((each) => each.usable && each.preset?.["steering"] === text.value && !each.preset["system"] && !each.preset["rules"]);
	const saved = same.find((each) => !each.shipped) ?? same[0];
	const all = snippets({
		address: location.origin,
		model: info.value?.model.served_as ?? "smollm2",
		steering: text.value,
		preset: saved?.name ?? null
	});
	const shown = all.find((each) => each.id === tab.value) ?? all[0];
	return k$2(Dialog, {
		title: "Use in my app",
		wide: true,
		onClose: () => codeOpen.value = false
	}, k$2("div", { class: "stack" }, k$2("p", null, text.value === "none" ? "No dial is on, so this code steers nothing." : k$2($, null, "The code steers with ", k$2("code", null, text.value), ", as the dials are now.")), k$2("div", {
		role: "tablist",
		"aria-label": "Client",
		onKeyDown: (event) => moveTab(event, all)
	}, all.map((each) => k$2("button", {
		key: each.id,
		type: "button",
		role: "tab",
		id: `tab-${each.id}`,
		"aria-selected": each === shown,
		"aria-controls": "snippet",
		tabIndex: each === shown ? 0 : -1,
		onClick: () => tab.value = each.id
	}, each.title))), k$2("div", {
		role: "tabpanel",
		id: "snippet",
		"aria-labelledby": `tab-${shown.id}`,
		class: "stack"
	}, k$2("p", { class: "hint" }, shown.note), shown.code === null ? k$2("p", null, k$2("button", {
		type: "button",
		class: "go",
		onClick: () => presetOpen.value = true
	}, "Save as preset")) : k$2(Code, {
		key: shown.id,
		code: shown.code,
		title: shown.title
	}))));
}
function moveTab(event, all) {
	const at = all.findIndex((each) => each.id === tab.value);
	const to = {
		ArrowRight: at + 1,
		ArrowLeft: at - 1,
		Home: 0,
		End: all.length - 1
	}[event.key];
	if (to === void 0) return;
	event.preventDefault();
	const id = all[(to + all.length) % all.length].id;
	tab.value = id;
	document.getElementById(`tab-${id}`)?.focus();
}
function Code({ code, title }) {
	const [copied, setCopied] = d$2("");
	const copy = async () => {
		try {
			await navigator.clipboard.writeText(code);
			setCopied("copied");
			announce(`Code for ${title} is copied`);
		} catch {
			setCopied("failed");
		}
	};
	return k$2($, null, k$2("pre", {
		tabIndex: 0,
		"aria-label": `Code for ${title}`
	}, k$2("code", null, code)), k$2("p", { class: "row" }, k$2("button", {
		type: "button",
		class: "go",
		onClick: () => void copy()
	}, "Copy"), copied === "copied" && k$2("span", null, "Copied"), copied === "failed" && k$2("span", { class: "warn" }, "▲ The browser does not allow it. Select the text and copy it.")));
}
// src/state/library.ts
var deleted$1 = y$1(null);
async function deleteVector(name) {
	const { undo } = unwrap(await api.DELETE("/v1/vectors/{name}", { params: { path: { name } } }));
	deleted$1.value = {
		name,
		undo
	};
	announce(`${name} is deleted`);
	await refresh();
}
async function restoreVector() {
	if (!deleted$1.value) return;
	const { name, undo } = deleted$1.value;
	unwrap(await api.POST("/v1/vectors/{name}/restore", {
		params: { path: { name } },
		body: { undo }
	}));
	deleted$1.value = null;
	announce(`${name} is restored`);
	await refresh();
}
async function detailsOf(name) {
	return unwrap(await api.GET("/v1/vectors/{name}", { params: { path: { name } } }));
}
// src/charts/bars.tsx
function Bars({ summary, bars, band, unit }) {
	const values = [0, ...bars.flatMap((bar) => [
		bar.value,
		bar.low ?? bar.value,
		bar.high ?? bar.value
	])];
	if (band) values.push(band.low, band.high);
	const span = Math.max(...values) - Math.min(...values) || 1;
	const [low, high] = [Math.min(...values) - .03 * span, Math.max(...values) + .03 * span];
	const at = (value) => `${percent$1(value, low, high)}%`;
	const wide = (from, to) => `${percent$1(Math.max(from, to), low, high) - percent$1(Math.min(from, to), low, high)}%`;
	return k$2("div", {
		class: "bars",
		role: "img",
		"aria-label": summary
	}, bars.map((bar) => k$2("div", {
		key: bar.label,
		class: "bar-row"
	}, k$2("span", { class: "bar-label" }, bar.label), k$2("svg", {
		width: "100%",
		height: "26"
	}, band && k$2("rect", {
		class: "chance",
		x: at(band.low),
		width: wide(band.low, band.high),
		y: "0",
		height: "100%"
	}), k$2("rect", {
		class: `bar ${bar.tone ?? "base"}`,
		x: at(Math.min(0, bar.value)),
		width: wide(0, bar.value),
		y: "6",
		height: "14"
	}), bar.low !== void 0 && bar.high !== void 0 && k$2("line", {
		class: "whisker",
		x1: at(bar.low),
		x2: at(bar.high),
		y1: "13",
		y2: "13"
	}), k$2("line", {
		class: "zero",
		x1: at(0),
		x2: at(0),
		y1: "0",
		y2: "100%"
	})), k$2("span", { class: "bar-value" }, change$1(bar.value, 2)))), k$2("div", { class: "bar-row" }, k$2("span", { class: "bar-label soft" }, unit), k$2("div", { class: "strengths" }, ticks(low, high, 3).map((tick) => k$2("span", {
		key: tick,
		style: { left: at(tick) }
	}, figure(tick)))), k$2("span", null)));
}
// src/parts/card-charts.tsx
function CardCharts({ details }) {
	const { card } = details;
	const written = card?.written ? [card.written["default"], card.written["safe"]].filter((each) => Boolean(each)) : details.written;
	return k$2($, null, written.length > 0 && k$2(Written, {
		details,
		written
	}), card && k$2(Preference, { card }), card && k$2(Cost, { card }));
}
function Written({ details, written }) {
	const { card, poles, safe } = details;
	const chance = card?.chance ?? null;
	const points = [{
		x: 0,
		y: 0
	}];
	for (const effect of written) for (const [sign, measured] of Object.entries(effect.effect)) {
		const x = effect.strengths[sign] ?? 0;
		if (x !== 0 && !points.some((point) => point.x === x)) points.push({
			x,
			y: measured.value,
			low: measured.low,
			high: measured.high
		});
	}
	const [first] = written;
	const prompts = first ? ["+", "-"].flatMap((sign) => {
		const bars = [];
		const [own, prompt] = [first.effect[sign], first.prompt_effect[sign]];
		const tone = sign === "+" ? "plus" : "minus";
		const pole = poles?.[sign] ?? (sign === "+" ? "positive" : "negative");
		if (own) bars.push({
			label: `vector at ${signed(first.strengths[sign] ?? 0)}, ${pole}`,
			...own,
			tone
		});
		if (prompt) bars.push({
			label: `system prompt, ${pole}`,
			...prompt
		});
		return bars;
	}) : [];
	const beyond = chance ? ` Random directions reach from ${change$1(chance.low)} to ${change$1(chance.high)}.` : "";
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Written effect"
	}, k$2("h2", null, "What it does to answers"), k$2("p", { class: "hint" }, "Written effect: how much more an answer sounds like ", poles?.["+"] ?? "the positive pole", " than like ", poles?.["-"] ?? "the negative pole", ", by the unsteered model's own judgement, in nat per token. Lines are 95 % intervals.", chance && " Grey: where random directions of the same KL come to."), k$2("div", { class: "pair" }, k$2(LineChart, {
		title: "Written effect by strength",
		summary: `Written effect by strength: ${points.map((point) => `${signed(point.x)}: ${change$1(point.y)}`).join(", ")}.${beyond}`,
		points,
		zone: safe,
		band: chance,
		from: 0,
		height: 180
	}), k$2(Bars, {
		summary: `Vector and system prompts: ${prompts.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
		bars: prompts,
		band: chance,
		unit: "nat per token"
	})), k$2(Numbers, {
		caption: "Written effects",
		head: [
			"Of",
			"Effect",
			"95 % interval"
		],
		rows: [
			...[...points].sort((a, b) => a.x - b.x).map((point) => [
				`strength ${signed(point.x)}`,
				change$1(point.y),
				point.low === void 0 ? "–" : range(point)
			]),
			...prompts.filter((bar) => bar.tone === void 0).map((bar) => [
				bar.label,
				change$1(bar.value),
				range(bar)
			]),
			...chance ? [[
				"random directions",
				"–",
				range(chance)
			]] : [],
			...first?.times_prompt ? [[
				"times the prompt",
				figure(first.times_prompt.value),
				range(first.times_prompt)
			]] : []
		]
	}));
}
function Preference({ card }) {
	const bars = ["+", "-"].flatMap((sign) => {
		const effect = card.effect[sign];
		return effect ? [{
			label: `at ${sign === "+" ? "+1" : "−1"}, ${sign === "+" ? card.positive : card.negative}`,
			...effect,
			tone: sign === "+" ? "plus" : "minus"
		}] : [];
	});
	if (card.prompt_swing) bars.push({
		label: "both system prompts",
		...card.prompt_swing
	});
	if (card.shuffled !== null) bars.push({
		label: "shuffled labels",
		value: card.shuffled
	});
	if (!bars.length) return null;
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Preference"
	}, k$2("h2", null, "What it does to preferences"), k$2("p", { class: "hint" }, "How much likelier answers in the character of ", card.positive, " become than those of ", card.negative, ", in nat per token."), k$2(Bars, {
		summary: `Preference: ${bars.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
		bars,
		unit: "nat per token"
	}), k$2(Numbers, {
		caption: "Preference effects",
		head: [
			"Of",
			"Effect",
			"95 % interval"
		],
		rows: bars.map((bar) => [
			bar.label,
			change$1(bar.value),
			range(bar)
		])
	}));
}
function Cost({ card }) {
	const ends = ["-", "+"].flatMap((sign) => {
		const cost = card.cost[sign];
		const end = sign === "+" ? card.safe?.high : card.safe?.low;
		return cost ? [{
			sign,
			cost,
			label: end === void 0 ? sign : signed(end)
		}] : [];
	});
	if (!ends.length) return null;
	const tone = (sign) => sign === "+" ? "plus" : "minus";
	const bars = ends.flatMap(({ sign, cost, label }) => [...cost.accuracy_change ? [{
		label: `facts at ${label}`,
		value: 100 * cost.accuracy_change.value,
		low: 100 * cost.accuracy_change.low,
		high: 100 * cost.accuracy_change.high,
		tone: tone(sign)
	}] : [], ...cost.relevance_change === null ? [] : [{
		label: `relevance at ${label}`,
		value: 100 * cost.relevance_change,
		tone: tone(sign)
	}]]);
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Cost"
	}, k$2("h2", null, "What it costs at the ends of the safe range"), k$2("p", { class: "hint" }, "Change of the share of simple facts that the model knows, and of how near answers stay to their question, in points of a hundred."), bars.length > 0 && k$2(Bars, {
		summary: `Changes: ${bars.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
		bars,
		unit: "points"
	}), k$2("div", {
		class: "scroll",
		tabIndex: 0,
		role: "region",
		"aria-label": "Costs"
	}, k$2("table", { class: "data costs" }, k$2("thead", null, k$2("tr", null, k$2("th", { scope: "col" }, "Measure"), ends.map(({ label }) => k$2("th", {
		key: label,
		scope: "col",
		class: "number"
	}, "at ", label)))), k$2("tbody", null, measures(card).map(({ name, of }) => k$2("tr", { key: name }, k$2("th", { scope: "row" }, name), ends.map(({ sign, label }) => k$2("td", {
		key: label,
		class: "number"
	}, of(sign)))))))));
}
function measures(card) {
	const shown = (value, write) => value === null || value === void 0 ? "–" : write(value);
	return [
		{
			name: "KL, nat per token",
			of: (sign) => shown(card.cost[sign]?.kl, (kl) => figure(kl))
		},
		{
			name: "Perplexity, times the plain answers'",
			of: (sign) => shown(card.cost[sign]?.perplexity_ratio, (ratio) => figure(ratio))
		},
		{
			name: "Answers that repeat themselves, %",
			of: (sign) => shown(card.cost[sign]?.loops, (share) => figure(100 * share))
		},
		{
			name: "Facts known, change in points",
			of: (sign) => shown(card.cost[sign]?.accuracy_change?.value, (points) => change$1(100 * points))
		},
		{
			name: "95 % interval",
			of: (sign) => card.cost[sign]?.accuracy_change ? range(scaled(card.cost[sign].accuracy_change, 100)) : "–"
		},
		{
			name: "Relevance, change in points",
			of: (sign) => shown(card.cost[sign]?.relevance_change, (points) => change$1(100 * points))
		},
		{
			name: "Harmful requests refused at ±1, %",
			of: (sign) => shown(card.refuses_harmful?.[sign], (share) => figure(100 * share))
		}
	];
}
function scaled({ value, low, high }, factor) {
	return {
		value: factor * value,
		low: factor * low,
		high: factor * high
	};
}
function range({ low, high }) {
	return low === void 0 || high === void 0 ? "–" : `${change$1(low)} to ${change$1(high)}`;
}
// src/parts/verdict.ts
var GLYPHS = {
	works: "✓",
	"one way only": "◐",
	weak: "○",
	"does not work": "✕"
};
var ORDER = Object.keys(GLYPHS);
function rank(verdict) {
	const at = ORDER.indexOf(verdict ?? "");
	return at < 0 ? ORDER.length - 1.5 : at;
}
function glyph(verdict) {
	return (verdict && GLYPHS[verdict]) ?? "·";
}
function between({ low, high }, digits = 1) {
	return `95 % interval ${low.toFixed(digits)} to ${high.toFixed(digits)}`.replaceAll("-", "−");
}
function verdictOf(details) {
	const { card, safe, header } = details;
	if (card) return {
		word: capital$1(card.word),
		sentences: card.sentences
	};
	if (header.distillation) {
		const { kl_before, kl_after, prompt_tokens } = header.distillation;
		return {
			word: `${Math.round(100 * (1 - kl_after / kl_before))} % of the way to its prompt`,
			sentences: [`The prompted model is ${kl_before.toFixed(2)} nat per token away from the plain one, and ${kl_after.toFixed(2)} from the steered one.`, `It saves ${prompt_tokens} tokens in every request.`]
		};
	}
	if (!safe) return {
		word: "Not measured",
		sentences: ["This training gives the direction and its unit of strength. Train with more effort for a safe range."]
	};
	return {
		word: ownWord(details),
		sentences: [`Safe range: ${safe.why}.`.replaceAll(/(?<![\w])-(?=\d)/g, "−"), ...effects(details)]
	};
}
function ownWord({ safe, poles, written }) {
	if (!safe || safe.low === 0 && safe.high === 0) return "Does not work: text holds together at no strength";
	if (safe.low === 0) return `One way only: towards ${poles?.["+"] ?? "its positive pole"}`;
	if (safe.high === 0) return `One way only: towards ${poles?.["-"] ?? "its negative pole"}`;
	const swing = written[0]?.swing;
	if (!swing) return "It holds together both ways; its effect was not measured";
	return swing.low > 0 ? "It moves what the model writes, both ways together" : "Weak: what the model writes hardly moves";
}
function effects({ written }) {
	return written.slice(0, 1).map((effect) => {
		const at = `From ${signed(effect.strengths["-"] ?? 0)} to ${signed(effect.strengths["+"] ?? 0)}`;
		if (!effect.times_prompt) return `${at}: ${effect.swing.value.toFixed(3)} nat per token. It is not compared with system prompts, because ${effect.reason}.`;
		return `${at} it does ${effect.times_prompt.value.toFixed(1)} times what system prompts for the two poles do (${between(effect.times_prompt)}).`;
	});
}
function capital$1(text) {
	return text[0].toUpperCase() + text.slice(1);
}
// src/parts/made.tsx
var QUESTION = "How was your day?";
function Made$1({ job }) {
	const [details, setDetails] = d$2(null);
	const [error, setError] = d$2(null);
	const name = job.result && "vector" in job.result && !("strengths" in job.result) ? job.result.vector : null;
	const there = name !== null && vectorOf.value.has(name);
	A$1(() => {
		if (name !== null && there) detailsOf(name).then(setDetails, setError);
	}, [name, there]);
	if (name === null) return null;
	if (!there) return k$2(Gone, {
		job,
		name
	});
	const { word, sentences } = details ? verdictOf(details) : {
		word: "",
		sentences: []
	};
	return k$2("div", { class: "stack" }, details && k$2("div", { class: "stack tight" }, k$2("p", null, k$2("strong", null, word)), sentences.map((each) => k$2("p", { key: each }, each))), details && k$2(Samples$1, {
		job,
		details
	}), error !== null && k$2(Problem, { error }), k$2("div", { class: "row" }, k$2("button", {
		type: "button",
		class: "go",
		onClick: () => {
			add(name);
			location.hash = "try";
		}
	}, "Try it"), k$2("button", {
		type: "button",
		onClick: () => dismiss(job.id)
	}, "Keep"), k$2("button", {
		type: "button",
		onClick: () => openCard(name)
	}, "Card"), k$2("button", {
		type: "button",
		class: "danger",
		onClick: () => deleteVector(name).then(() => dismiss(job.id), setError)
	}, "Discard")));
}
function Gone({ job, name }) {
	return k$2("p", { class: "row" }, k$2("span", null, "The vector ", name, " is no longer there."), k$2("button", {
		type: "button",
		onClick: () => dismiss(job.id)
	}, "Dismiss"));
}
function Samples$1({ job, details }) {
	const [error, setError] = d$2(null);
	const sweep = jobs.value.find((each) => each.fields.kind === "sweep" && each.fields.vector === details.name && each.created >= (job.ended ?? 0));
	A$1(() => {
		if (sweep) return;
		begin({
			kind: "sweep",
			vector: details.name,
			prompt: QUESTION,
			strengths: strengthsOf(details),
			max_tokens: 40,
			kl: true
		}).catch(setError);
	}, [details.name]);
	if (error !== null) return k$2(Problem, { error });
	const rows = sweep ? findingsOf(sweep, "strength") : [];
	if (!rows.length) return k$2("p", {
		class: "soft",
		role: "status"
	}, "Answering “", QUESTION, "” both ways…");
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Samples"
	}, k$2("p", { class: "small" }, "“", QUESTION, "”"), k$2("div", { class: "samples" }, rows.map((row) => k$2("div", {
		key: row.strength,
		class: "stack tight"
	}, k$2("p", { class: "small" }, k$2("strong", null, row.strength ? signed(row.strength) : "as it is"), " ", !row.usable && k$2("span", { class: "warn" }, "▲ ", row.loops ? "repeats itself" : "no answer")), k$2("blockquote", { class: row.strength > 0 ? "plus" : row.strength < 0 ? "minus" : "" }, row.text.trim() || "(no answer)")))));
}
function strengthsOf({ default_strength, safe, header }) {
	if (header.distillation) return [0, default_strength ?? 1];
	const low = safe ? Math.max(-.5, safe.low) : -.5;
	const high = safe ? Math.min(.5, safe.high) : .5;
	return [...new Set([
		low || -.25,
		0,
		high || .25
	])];
}
// src/parts/job-panel.tsx
var WORDS$2 = {
	queued: "waits for its turn",
	running: "is being made",
	stopped: "was stopped; what was found is kept",
	done: "is ready",
	failed: "has failed"
};
function JobPanel({ job }) {
	const [error, setError] = d$2(null);
	A$1(() => {
		if (hasEnded(job) && job.result === null) reread(job.id).catch(() => void 0);
	}, [job.id, job.status]);
	const act = (work) => {
		setError(null);
		work.catch(setError);
	};
	return k$2("article", {
		class: "card job stack",
		"aria-label": `${nameOf(job)} ${WORDS$2[job.status]}`
	}, k$2("div", { class: "row" }, k$2("h2", { class: "grow" }, nameOf(job), " ", k$2("span", { class: "soft" }, WORDS$2[job.status])), !hasEnded(job) && k$2(TimeLeft, { job }), !hasEnded(job) && k$2("button", {
		type: "button",
		onClick: () => act(halt(job.id))
	}, "Stop: what was found is kept"), (job.status === "stopped" || job.status === "failed") && k$2($, null, k$2("button", {
		type: "button",
		class: "go",
		onClick: () => act(resume(job.id))
	}, job.status === "failed" ? "Try again" : "Go on"), k$2("button", {
		type: "button",
		onClick: () => dismiss(job.id)
	}, "Dismiss"))), error !== null && k$2(Problem, { error }), job.error && k$2(Problem, { error: job.error }), job.status === "done" ? k$2(Made$1, { job }) : k$2("div", { class: "columns" }, k$2(Phases, { job }), k$2(Findings, { job })), job.status === "done" && k$2("details", null, k$2("summary", null, "How it was made"), k$2("div", { class: "columns" }, k$2(Phases, { job }), k$2(Findings, { job }))));
}
function TimeLeft({ job }) {
	const [passed, setPassed] = d$2(0);
	A$1(() => {
		const since = performance.now();
		setPassed(0);
		const timer = setInterval(() => setPassed((performance.now() - since) / 1e3), 1e3);
		return () => clearInterval(timer);
	}, [job.seconds_left]);
	if (job.seconds_left === null || job.seconds_left === void 0) return null;
	const left = Math.max(job.seconds_left - (job.status === "queued" ? 0 : passed), 0);
	return k$2("span", { class: "soft" }, job.status === "queued" ? `then about ${duration(left)}` : `about ${duration(left)} left`);
}
function Phases({ job }) {
	const done = new Map();
	for (const { phase, seconds } of job.phases) done.set(phase, Math.max(seconds, done.get(phase) ?? 0));
	const now = hasEnded(job) ? null : job.progress;
	if (now) done.delete(now.phase);
	const expected = job.expected ?? {};
	const later = job.status === "done" ? [] : Object.keys(expected).filter((phase) => !done.has(phase) && phase !== now?.phase);
	return k$2("ol", {
		class: "phases",
		"aria-label": "Phases"
	}, [...done].map(([phase, seconds]) => k$2("li", { key: phase }, k$2("span", { "aria-label": "done" }, "✓"), k$2("span", null, phase), k$2("span", { class: "soft number" }, seconds < 10 ? seconds.toFixed(1) : Math.round(seconds), " s"))), now && job.status === "running" && k$2("li", {
		key: now.phase,
		"aria-current": "step"
	}, k$2("span", { "aria-label": "now" }, "▶"), k$2("strong", null, now.phase), k$2("span", { class: "soft number" }, now.total > 1 ? `${now.done} of ${now.total}` : "", now.status && ` · ${now.status}`), now.total > 1 ? k$2("progress", {
		"aria-label": now.phase,
		max: now.total,
		value: now.done
	}) : k$2("progress", { "aria-label": now.phase }), now.note && k$2("span", { class: "soft small" }, now.note)), later.map((phase) => k$2("li", {
		key: phase,
		class: "later"
	}, k$2("span", { "aria-label": "later" }, "·"), k$2("span", null, phase))));
}
function Findings({ job }) {
	const agreement = findingsOf(job, "agreement").at(-1);
	const answers = findingsOf(job, "answers");
	const layers = findingsOf(job, "layers").at(-1);
	const unlike = [...new Map(answers.map((each) => [each.question, each])).values()].slice(0, 2);
	if (!agreement && !unlike.length && !layers) return null;
	return k$2("div", {
		class: "stack",
		"aria-label": "Found so far",
		role: "group"
	}, agreement && k$2("p", null, agreement.pairs, " pairs agree with cosine ", agreement.cosine.toFixed(2), "; along their direction", " ", Math.round(100 * agreement.separation), " % lie the right way round."), unlike.map((each) => k$2("div", {
		key: each.question,
		class: "stack tight"
	}, k$2("p", { class: "small" }, "Asked to be either, the model answers “", each.question, "” with"), k$2("div", { class: "both" }, k$2("blockquote", { class: "plus" }, "+ ", each.positive), k$2("blockquote", { class: "minus" }, "− ", each.negative)))), layers && k$2(Layers, {
		shares: layers.shares,
		tried: layers.tried
	}));
}
function Layers({ shares, tried }) {
	const layers = Object.entries(shares).map(([layer, share]) => [Number(layer), share]).sort(([a], [b]) => a - b);
	const most = layers.reduce((best, each) => each[1] > best[1] ? each : best, layers[0] ?? [0, 0]);
	return k$2("div", { class: "stack tight" }, k$2("p", null, `It steers layers ${layers[0]?.[0]} to ${layers.at(-1)?.[0]}, layer ${most[0]} the most${tried ? `; ${tried} choices of layers were compared` : ""}.`), k$2("div", {
		class: "layers",
		role: "img",
		"aria-label": `Share of each layer: ${layers.map(([layer, share]) => `${layer}: ${Math.round(100 * share)} %`).join(", ")}`
	}, layers.map(([layer, share]) => k$2("span", {
		key: layer,
		style: { height: `${Math.max(100 * share, 2)}%` },
		title: `layer ${layer}: ${Math.round(100 * share)} %`
	}))));
}
// src/parts/safe-range.tsx
var BROKEN = {
	repetition: "answers repeat themselves",
	relevance: "answers leave the question",
	likelihood: "the text becomes unlikely",
	facts: "facts are lost",
	budget: "nothing was measured"
};
function SafeRange({ low, high, reasons, poles }) {
	const at = (strength) => `${100 * (Math.max(-1, Math.min(1, strength)) + 1) / 2}%`;
	const why = (sign) => BROKEN[reasons[sign] ?? ""] ?? "it was not measured";
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Safe range"
	}, k$2("h2", null, "Safe range: ", signed(low), " to ", signed(high)), k$2("div", {
		class: "safe-track",
		"aria-hidden": "true"
	}, k$2("span", {
		class: "inside",
		style: {
			left: at(low),
			right: `calc(100% - ${at(high)})`
		}
	}), k$2("span", { class: "middle" })), k$2("div", { class: "row small" }, k$2("span", null, k$2("span", { class: "minus" }, "− ", poles?.["-"] ?? ""), " below ", signed(low), ", ", why("-")), k$2("span", { class: "end" }, "above ", signed(high), ", ", why("+"), " ", k$2("span", { class: "plus" }, poles?.["+"] ?? "", " +"))));
}
// src/parts/undo.tsx
function Undo() {
	const [error, setError] = d$2(null);
	if (!deleted$1.value) return null;
	return k$2("div", { class: "stack tight" }, k$2("p", { class: "notice row" }, k$2("span", null, k$2("strong", null, deleted$1.value.name), " is deleted."), k$2("button", {
		type: "button",
		onClick: () => void restoreVector().catch(setError)
	}, "Undo"), k$2("button", {
		type: "button",
		class: "quiet",
		onClick: () => deleted$1.value = null
	}, "Dismiss")), error !== null && k$2(Problem, { error }));
}
// src/parts/card-page.tsx
function CardPage({ name }) {
	const [details, setDetails] = d$2(null);
	const [error, setError] = d$2(null);
	const evaluations = jobs.value.filter((job) => job.kind === "evaluate" && nameOf(job) === name);
	const ready = evaluations.filter((job) => job.status === "done").length;
	A$1(() => {
		detailsOf(name).then((found) => {
			setDetails(found);
			setError(null);
		}, (problem) => {
			setDetails(null);
			setError(problem);
		});
	}, [
		name,
		ready,
		vectorOf.value.has(name)
	]);
	return k$2("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack card-page"
	}, k$2("p", null, k$2("a", { href: "#/library" }, "All vectors")), k$2("h1", null, name), k$2(Undo, null), error !== null && k$2(Problem, { error }, error instanceof ApiError && error.status === 404 && k$2("a", { href: "#/library" }, "See what there is")), !details && error === null && k$2("p", {
		class: "soft",
		role: "status"
	}, "Reading the card…"), details && k$2(Card, {
		details,
		onError: setError
	}), evaluations.filter((job) => !hasEnded(job) || job.status === "failed").slice(0, 1).map((job) => k$2(JobPanel, {
		key: job.id,
		job
	})));
}
function Card({ details, onError }) {
	const { name, card, poles, safe } = details;
	const { word, sentences } = verdictOf(details);
	const reasons = (details.header.safe ?? card?.safe)?.reasons;
	return k$2($, null, k$2("div", { class: "row" }, k$2("button", {
		type: "button",
		class: "go",
		onClick: () => {
			add(name);
			location.hash = "try";
		}
	}, "Try it"), k$2("button", {
		type: "button",
		onClick: () => openBreaks(name)
	}, "Find where it breaks"), k$2("button", {
		type: "button",
		onClick: () => saveFile(`/v1/vectors/${encodeURIComponent(name)}/file`, `${name}.safetensors`).catch(onError)
	}, "Download"), !card && info.value?.capabilities.jobs && k$2(Evaluate, {
		details,
		onError
	}), details.own && k$2("button", {
		type: "button",
		class: "danger",
		onClick: () => deleteVector(name).then(() => location.hash = "library", onError)
	}, "Delete")), poles && k$2("p", null, k$2("span", { class: "plus" }, "+ ", poles["+"]), " · ", k$2("span", { class: "minus" }, "− ", poles["-"])), k$2("section", {
		class: "stack tight",
		"aria-label": "Verdict"
	}, k$2("h2", null, word), k$2("ul", { class: "sentences" }, sentences.map((each) => k$2("li", { key: each }, each.replaceAll(/(?<![\w±])-(?=\d)/g, "−"))))), safe && k$2(SafeRange, {
		low: safe.low,
		high: safe.high,
		reasons: reasons ?? {},
		poles
	}), k$2(CardCharts, { details }), card && card.samples.length > 0 && k$2(Samples, { details }), k$2(Made, { details }));
}
function Evaluate({ details, onError }) {
	const { name } = details;
	const running = jobs.value.some((job) => job.kind === "evaluate" && nameOf(job) === name && !hasEnded(job));
	const training = jobs.value.find((job) => job.fields.kind === "train" && job.fields.name === name && job.fields.toml);
	const toml = training?.fields.kind === "train" ? training.fields.toml ?? null : null;
	const evaluate = () => {
		begin({
			kind: "evaluate",
			vector: name,
			...toml ? { toml } : {},
			seed: 0
		}).catch(onError);
	};
	return k$2("button", {
		type: "button",
		disabled: running,
		onClick: evaluate
	}, "Evaluate it: some minutes");
}
function Samples({ details }) {
	const at = details.card?.written?.["default"]?.strengths;
	const [low, high] = [signed(at?.["-"] ?? -.5), signed(at?.["+"] ?? .5)];
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Samples"
	}, k$2("h2", null, "Samples"), details.card?.samples.map((sample) => k$2("div", {
		key: sample.question,
		class: "stack tight"
	}, k$2("p", null, "“", sample.question, "”"), k$2("div", { class: "samples" }, k$2("div", null, k$2("p", { class: "small" }, k$2("strong", null, low)), k$2("blockquote", { class: "minus" }, sample.minus)), k$2("div", null, k$2("p", { class: "small" }, k$2("strong", null, "as it is")), k$2("blockquote", null, sample.base)), k$2("div", null, k$2("p", { class: "small" }, k$2("strong", null, high)), k$2("blockquote", { class: "plus" }, sample.plus))))));
}
function Made({ details }) {
	const { header, card } = details;
	const facts = [
		["Method", details.method],
		["Effort", details.effort || "not recorded"],
		["Layers", listed(details.layers)],
		["Budget", header.calibration ? `${header.calibration.budget.toFixed(2)} nat per token at strength 1` : "not calibrated"],
		["Pairs", header.reliability ? `${header.reliability.pairs}, cosine ${header.reliability.pairwise_cosine.toFixed(2)}` : "not recorded"],
		["Made", details.created.replace("T", " ").replace("+00:00", " UTC") || "not recorded"],
		["Card measured on", card ? `${card.questions} questions, layers ${listed(card.layers)}` : "–"]
	];
	return k$2("section", {
		class: "stack tight",
		"aria-label": "How it was made"
	}, k$2("h2", null, "How it was made"), k$2("dl", { class: "facts" }, facts.map(([term, text]) => k$2("div", { key: term }, k$2("dt", null, term), k$2("dd", null, text)))));
}
function listed(numbers) {
	const runs = [];
	for (const each of numbers) {
		const last = runs.at(-1);
		if (last && each === last[1] + 1) last[1] = each;
		else runs.push([each, each]);
	}
	return runs.map(([from, to]) => from === to ? from : `${from} to ${to}`).join(", ");
}
// src/parts/presets.tsx
var deleted = y$1(null);
function Presets() {
	const [error, setError] = d$2(null);
	A$1(() => void findPresets().catch(setError), []);
	const act = (work) => {
		setError(null);
		work.then(findPresets).catch(setError);
	};
	const remove = async (preset) => {
		unwrap(await api.DELETE("/v1/presets/{name}", { params: { path: { name: preset.name } } }));
		deleted.value = preset;
		announce(`The preset ${preset.name} is deleted`);
	};
	const restore = async (preset) => {
		unwrap(await api.PUT("/v1/presets/{name}", {
			params: { path: { name: preset.name } },
			body: preset.preset
		}));
		deleted.value = null;
		announce(`The preset ${preset.name} is restored`);
	};
	return k$2("section", {
		class: "stack tight",
		"aria-label": "Presets"
	}, k$2("h2", null, "Presets"), k$2("p", { class: "hint" }, "A steering with a name, which any client can choose as a model."), deleted.value && k$2("p", { class: "notice row" }, k$2("span", null, "The preset ", k$2("strong", null, deleted.value.name), " is deleted."), deleted.value.preset && k$2("button", {
		type: "button",
		onClick: () => act(restore(deleted.value))
	}, "Undo")), error !== null && k$2(Problem, { error }), k$2("div", {
		class: "scroll",
		tabIndex: 0,
		role: "region",
		"aria-label": "Table of presets"
	}, k$2("table", { class: "data" }, k$2("thead", null, k$2("tr", null, k$2("th", { scope: "col" }, "Name"), k$2("th", { scope: "col" }, "Steering"), k$2("th", { scope: "col" }, "As a model"), k$2("th", { scope: "col" }, k$2("span", { class: "vh" }, "What to do")))), k$2("tbody", null, presets.value.map((preset) => k$2("tr", { key: preset.name }, k$2("th", { scope: "row" }, preset.name), k$2("td", null, preset.usable ? k$2(Steers, { preset }) : k$2("span", { class: "warn" }, "▲ Not usable: ", preset.problem)), k$2("td", null, k$2("code", null, preset.model)), k$2("td", { class: "do" }, preset.usable && steeringOf(preset) && k$2("button", {
		type: "button",
		onClick: () => act(take(steeringOf(preset)).then(() => location.hash = "try"))
	}, "Try", k$2("span", { class: "vh" }, " ", preset.name)), !preset.shipped && k$2("button", {
		type: "button",
		onClick: () => act(remove(preset))
	}, "Delete", k$2("span", { class: "vh" }, " ", preset.name)))))))));
}
function steeringOf(preset) {
	const steering = preset.preset?.["steering"];
	return typeof steering === "string" ? steering : null;
}
function Steers({ preset }) {
	const steering = steeringOf(preset);
	if (steering) return k$2("code", null, steering);
	return k$2("span", { class: "soft" }, preset.preset?.["flow"] ? "by the stage of the conversation" : "not steered");
}
// src/parts/upload.tsx
function Upload() {
	const [chosen, setChosen] = d$2(null);
	const [name, setName] = d$2("");
	const [share, setShare] = d$2(null);
	const [error, setError] = d$2(null);
	const [done, setDone] = d$2("");
	const most = info.value?.limits.vector_bytes ?? Infinity;
	const choose = (file) => {
		setChosen(file ?? null);
		setError(null);
		setDone("");
		if (file) setName(file.name.replace(/\.safetensors$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64));
		if (file && file.size > most) setError(new ApiError(`the file has ${file.size} bytes, and vectors of this model at most ${most}`, "choose a vector file of this model", "too_large", 413));
	};
	const send = async (overwrite) => {
		if (!chosen) return;
		setError(null);
		setShare(0);
		try {
			await upload(`/v1/vectors/${encodeURIComponent(name)}${overwrite ? "?overwrite=true" : ""}`, chosen, setShare);
			setDone(name);
			announce(`${name} is uploaded`);
			setChosen(null);
			await refresh();
		} catch (problem) {
			setError(problem);
		} finally {
			setShare(null);
		}
	};
	const exists = error instanceof ApiError && error.code === "exists";
	return k$2("form", {
		class: "card stack tight",
		"aria-label": "Upload a vector",
		onSubmit: (event) => {
			event.preventDefault();
			send(false);
		}
	}, k$2("h2", null, "Upload a vector"), k$2("div", { class: "row" }, k$2("label", { class: "field" }, k$2("span", { class: "label" }, "File (.safetensors)"), k$2("input", {
		type: "file",
		accept: ".safetensors",
		onChange: (event) => choose(event.currentTarget.files?.[0])
	})), k$2("label", { class: "field" }, k$2("span", { class: "label" }, "Name"), k$2("input", {
		value: name,
		required: true,
		maxLength: 64,
		pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
		title: "Letters, digits, '.', '_' and '-'",
		autocomplete: "off",
		onInput: (event) => setName(event.currentTarget.value)
	})), k$2("button", {
		class: "go",
		disabled: !chosen || !name || share !== null || chosen.size > most
	}, "Upload")), share !== null && k$2("progress", {
		"aria-label": "Uploaded",
		max: 1,
		value: share
	}), done && k$2("p", null, done, " is uploaded, and is served at once."), error !== null && k$2(Problem, { error }, exists && k$2("button", {
		type: "button",
		onClick: () => void send(true)
	}, "Replace it")));
}
// src/state/make.ts
var EFFORTS$1 = [
	"quick",
	"default",
	"thorough"
];
var form = kept("make", {
	source: "poles",
	name: "",
	positive: [""],
	negative: [""],
	effort: "default",
	prompt: ""
}, isForm);
var file = y$1(null);
function set(change) {
	form.value = {
		...form.value,
		...change
	};
}
var filled = (poles) => poles.map((pole) => pole.trim()).filter(Boolean);
var name = O(() => {
	const { source, name: typed, positive, prompt } = form.value;
	if (typed.trim()) return typed.trim();
	if (source === "file") return free(draft.value?.name ?? "");
	return free(slug(source === "poles" ? filled(positive)[0] ?? "" : prompt));
});
function free(wanted) {
	if (!vectorOf.value.has(wanted)) return wanted;
	for (let n = 2;; n++) if (!vectorOf.value.has(`${wanted}-${n}`)) return `${wanted}-${n}`;
}
function slug(text) {
	return text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9 _-]/g, "").split(/\s+/).filter((word) => word && ![
		"a",
		"an",
		"the",
		"you",
		"are",
		"always",
		"very"
	].includes(word)).slice(0, 3).join("-").slice(0, 40);
}
var draft = y$1(null);
var draftProblem = y$1(null);
var asked = 0;
x(() => {
	const { source, positive, negative } = form.value;
	const given = file.value;
	const written = name.peek() || "mine";
	const number = ++asked;
	const poles = {
		positive: filled(positive),
		negative: filled(negative)
	};
	if (source === "prompt" || (source === "file" ? !given : !poles.positive.length || !poles.negative.length)) {
		draft.value = null;
		draftProblem.value = null;
		return;
	}
	setTimeout(() => {
		if (number !== asked) return;
		read(source === "file" ? Promise.resolve(given.toml) : write(written, poles)).then((found) => {
			if (number === asked) [draft.value, draftProblem.value] = [found, null];
		}, (error) => {
			if (number === asked && error instanceof ApiError) [draft.value, draftProblem.value] = [null, error];
		});
	}, 350);
});
async function readyToml() {
	const { source, positive, negative } = form.value;
	if (source === "poles") return write(name.value, {
		positive: filled(positive),
		negative: filled(negative)
	});
	return draft.value?.toml ?? "";
}
async function write(called, poles) {
	const name = /^[a-z0-9][a-z0-9_-]*$/.test(called) ? called : slug(called) || "mine";
	return unwrap(await api.POST("/v1/behaviours/draft", { body: {
		name,
		...poles
	} })).toml;
}
async function read(text) {
	const toml = await text;
	const { ok, name: own, findings } = unwrap(await api.POST("/v1/behaviours/lint", { body: { toml } }));
	return {
		toml,
		name: own,
		ok,
		findings,
		preview: ok ? unwrap(await api.POST("/v1/pairs/preview", { body: {
			toml,
			count: 3
		} })) : null
	};
}
function expected(kind) {
	return info.value?.expected_seconds[kind] ?? null;
}
function isForm(value) {
	const given = value;
	return typeof given?.name === "string" && [
		"poles",
		"file",
		"prompt"
	].includes(given.source) && EFFORTS$1.includes(given.effort) && typeof given.prompt === "string" && [given.positive, given.negative].every((side) => Array.isArray(side) && side.every((way) => typeof way === "string"));
}
// src/parts/vector-table.tsx
var behaviours = y$1([]);
var query = y$1("");
var lines$1 = O(() => {
	const described = new Map(behaviours.value.map((each) => [each.name, each]));
	const own = vectors.value.map((vector) => ({
		name: vector.name,
		poles: vector.poles ? `${vector.poles["+"]} / ${vector.poles["-"]}` : "",
		about: described.get(vector.behaviour)?.description ?? "",
		vector,
		problem: null
	}));
	const taken = new Set(own.map((line) => line.name));
	const untrained = behaviours.value.filter((each) => !each.trained && !taken.has(each.name)).map((each) => ({
		name: each.name,
		poles: `${each.positive} / ${each.negative}`,
		about: each.description,
		vector: null,
		problem: unusable.value[each.name] ?? null
	}));
	for (const line of untrained) taken.add(line.name);
	const broken = Object.entries(unusable.value).filter(([name]) => !taken.has(name)).map(([name, problem]) => ({
		name,
		poles: "",
		about: "",
		vector: null,
		problem
	}));
	return [
		...own,
		...untrained,
		...broken
	];
});
var EFFORTS = [
	"",
	"quick",
	"default",
	"thorough"
];
var COLUMNS = [
	{
		id: "name",
		title: "Name",
		by: (line) => line.name.toLowerCase()
	},
	{
		id: "poles",
		title: "Poles (+ / −)",
		extra: true,
		by: (line) => line.poles
	},
	{
		id: "verdict",
		title: "Verdict",
		by: (line) => line.vector ? -rank(line.vector.verdict) : -9
	},
	{
		id: "times",
		title: "Times the prompt",
		number: true,
		by: (line) => line.vector?.times_prompt ?? -1
	},
	{
		id: "safe",
		title: "Safe range",
		number: true,
		by: (line) => line.vector?.safe ? line.vector.safe.high - line.vector.safe.low : -1
	},
	{
		id: "strength",
		title: "Default strength",
		number: true,
		extra: true,
		by: (line) => line.vector?.default_strength ?? -9
	},
	{
		id: "from",
		title: "From",
		extra: true,
		by: (line) => line.vector ? `${line.vector.own ? 0 : 1}${EFFORTS.indexOf(line.vector.effort)}` : "2"
	}
];
var sorting = y$1({
	id: "name",
	down: false
});
var shown$1 = O(() => {
	const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
	const found = lines$1.value.filter((line) => words.every((word) => `${line.name} ${line.poles} ${line.about} ${line.vector?.verdict ?? ""}`.toLowerCase().includes(word)));
	const { by } = COLUMNS.find((column) => column.id === sorting.value.id);
	const sign = sorting.value.down ? -1 : 1;
	return [...found].sort((a, b) => sign * compare(by(a), by(b)) || compare(a.name, b.name));
});
function compare(a, b) {
	return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}
function VectorTable() {
	const [error, setError] = d$2(null);
	A$1(() => {
		api.GET("/v1/behaviours").then((answer) => behaviours.value = unwrap(answer).data, setError);
	}, [vectors.value]);
	return k$2("section", {
		class: "stack",
		"aria-label": "Vectors and behaviours"
	}, k$2("div", { class: "row" }, k$2("label", { class: "row grow" }, k$2("span", { class: "label" }, "Search"), k$2("input", {
		type: "search",
		class: "grow",
		value: query.value,
		onInput: (event) => query.value = event.currentTarget.value
	})), k$2("span", {
		class: "soft",
		role: "status"
	}, shown$1.value.length, " of ", lines$1.value.length)), error !== null && k$2(Problem, { error }), k$2("div", {
		class: "scroll",
		tabIndex: 0,
		role: "region",
		"aria-label": "Table of vectors and behaviours"
	}, k$2("table", { class: "data library" }, k$2("caption", { class: "vh" }, "Vectors and behaviours"), k$2("thead", null, k$2("tr", null, COLUMNS.map((column) => k$2(Head, {
		key: column.id,
		...column
	})), k$2("th", { scope: "col" }, k$2("span", { class: "vh" }, "What to do")))), k$2("tbody", null, shown$1.value.map((line) => k$2(Row, {
		key: line.name,
		line,
		onError: setError
	}))))), shown$1.value.length === 0 && k$2("p", null, "Nothing is called or described so."), k$2("p", { class: "hint" }, "Times the prompt: how much more a vector moves what the model writes at its default strength than system prompts for its two poles do. Safe range: strengths at which the text holds together."));
}
function Head({ id, title, number, extra }) {
	const { id: by, down } = sorting.value;
	const sorted = by === id ? down ? "descending" : "ascending" : void 0;
	const next = by === id ? !down : Boolean(number) || id === "verdict";
	return k$2("th", {
		scope: "col",
		class: `${number ? "number" : ""} ${extra ? "extra" : ""}`,
		"aria-sort": sorted
	}, k$2("button", {
		type: "button",
		onClick: () => sorting.value = {
			id,
			down: next
		}
	}, title, " ", k$2("span", { "aria-hidden": "true" }, sorted ? down ? "▼" : "▲" : "")));
}
function Row({ line, onError }) {
	const { name, vector, problem } = line;
	const seconds = expected("train default");
	const train = () => void trainBehaviour(name).catch(onError);
	return k$2("tr", null, k$2("th", { scope: "row" }, vector ? k$2("a", { href: `#/library/${encodeURIComponent(name)}` }, name) : name), k$2("td", {
		class: "pole-names extra",
		title: line.about
	}, line.poles), vector ? k$2($, null, k$2("td", { class: "verdict" }, vector.verdict ? `${glyph(vector.verdict)} ${vector.verdict}` : k$2("span", { class: "soft" }, "not evaluated")), k$2("td", { class: "number" }, vector.times_prompt === null ? "–" : `${vector.times_prompt.toFixed(1)} ×`), k$2("td", { class: "number range" }, vector.safe ? `${signed(vector.safe.low)} to ${signed(vector.safe.high)}` : "–"), k$2("td", { class: "number extra" }, vector.default_strength === null ? "–" : signed(vector.default_strength)), k$2("td", { class: "extra" }, vector.own ? "own" : "shipped", vector.effort && `, ${vector.effort}`)) : k$2("td", {
		colSpan: 5,
		class: problem ? "warn" : "soft"
	}, problem ? `▲ Not usable: ${problem}` : `No vector for ${info.value?.model.served_as ?? "this model"} yet`), k$2("td", { class: "do" }, vector && k$2("button", {
		type: "button",
		onClick: () => {
			add(name);
			location.hash = "try";
		}
	}, "Try", k$2("span", { class: "vh" }, " ", name)), vector?.own && k$2("button", {
		type: "button",
		onClick: () => deleteVector(name).catch(onError)
	}, "Delete", k$2("span", { class: "vh" }, " ", name)), !vector && behaviours.value.some((each) => each.name === name) && !problem && info.value?.capabilities.jobs && k$2("button", {
		type: "button",
		onClick: train
	}, "Train", k$2("span", { class: "vh" }, " ", name), seconds !== null && ` (about ${duration(seconds)})`), problem && k$2("button", {
		type: "button",
		onClick: () => deleteVector(name).catch(onError)
	}, "Delete", k$2("span", { class: "vh" }, " ", name))));
}
// src/places/library.tsx
var shown = y$1(named$1(location.hash));
addEventListener("hashchange", () => shown.value = named$1(location.hash));
function named$1(hash) {
	const match = /^#\/?library\/(.+)$/.exec(hash);
	try {
		return match ? decodeURIComponent(match[1]) : null;
	} catch {
		return null;
	}
}
function Library() {
	if (shown.value !== null) return k$2(CardPage, {
		key: shown.value,
		name: shown.value
	});
	return k$2("main", {
		id: "main",
		tabIndex: -1,
		class: "page wide stack"
	}, k$2("h1", null, "Library"), k$2(Undo, null), k$2(VectorTable, null), k$2(Upload, null), k$2(Presets, null));
}
// src/state/behaviour-file.ts
function asToml(fileName, text, name) {
	const ending = fileName.toLowerCase().split(".").at(-1);
	if (ending === "toml") return text;
	if (ending !== "json" && ending !== "jsonl") throw new Error(`${fileName} is no .toml, .json or .jsonl file`);
	const content = ending === "jsonl" ? lines(fileName, text) : parsed(fileName, text);
	if (Array.isArray(content)) return behaviourOfPairs(content, name);
	if (typeof content !== "object" || content === null) throw new Error(`${fileName} has neither a behaviour nor pairs`);
	return table(content);
}
function lines(fileName, text) {
	return text.split("\n").flatMap((line, n) => line.trim() ? [parsed(`${fileName}, line ${n + 1},`, line)] : []);
}
function parsed(where, text) {
	try {
		return JSON.parse(text);
	} catch {
		throw new Error(`${where} is not JSON`);
	}
}
function behaviourOfPairs(pairs, name) {
	return table({
		name: name || "mine",
		positive: { label: "positive" },
		negative: { label: "negative" },
		pairs
	});
}
function table(content) {
	return Object.entries(content).map(([key, value]) => `${JSON.stringify(key)} = ${written(value)}\n`).join("");
}
function written(value) {
	if (value === null) return "\"\"";
	if (Array.isArray(value)) return `[\n${value.map((each) => `  ${written(each)},\n`).join("")}]`;
	if (typeof value === "object") return `{ ${Object.entries(value).map(([key, inner]) => `${JSON.stringify(key)} = ${written(inner)}`).join(", ")} }`;
	return JSON.stringify(value);
}
// src/parts/hints.tsx
var WORDS$1 = {
	error: "Mistake",
	warning: "Better",
	note: "Note"
};
function Hints() {
	return k$2("ul", {
		class: "hints",
		"aria-label": "Hints",
		"aria-live": "polite"
	}, unlike(draft.value?.findings ?? []).map((finding, n) => k$2("li", { key: n }, k$2("span", { class: finding.level === "note" ? "soft" : "warn" }, finding.level === "note" ? "·" : "▲", " ", WORDS$1[finding.level]), " ", place$2(finding.where), ": ", finding.problem, ". ", finding.fix && k$2("span", { class: "soft" }, capital(finding.fix), "."))));
}
function unlike(findings) {
	const kind = ({ level, where, fix }) => `${level} ${where.replace(/\[\d+\]/, "")} ${fix}`;
	return [...new Map([...findings].reverse().map((each) => [kind(each), each])).values()].reverse();
}
function place$2(where) {
	const match = /^(positive|negative)\.personas\[(\d+)\]$/.exec(where);
	if (!match) return where;
	return `${match[1] === "positive" ? "Towards (+)" : "Against (−)"}, way ${Number(match[2]) + 1}`;
}
function capital(text) {
	return text[0].toUpperCase() + text.slice(1);
}
// src/parts/make-form.tsx
var SOURCES = {
	poles: "Two poles, in words",
	file: "My own pairs, from a file",
	prompt: "A system prompt to compile"
};
var ABOUT = {
	quick: "Quick: direction and unit of strength, no safe range",
	default: "Default: refined, with a safe range",
	thorough: "Thorough: layers compared, more questions"
};
var EXAMPLES = {
	positive: "a salty pirate captain",
	negative: "a careful lawyer"
};
function MakeForm() {
	const [error, setError] = d$2(null);
	const [beginning, setBeginning] = d$2(false);
	const { source, effort, prompt } = form.value;
	const seconds = expected(source === "prompt" ? "distill" : `train ${effort}`);
	const taken = vectorOf.value.get(name.value)?.own ?? false;
	const able = info.value?.capabilities;
	const blocked = source === "prompt" && !able?.gradients || able?.jobs === false;
	const ready = name.value !== "" && !blocked && (source === "prompt" ? prompt.trim() !== "" : draft.value !== null && draft.value.ok);
	const start = async () => {
		setError(null);
		setBeginning(true);
		try {
			if (source === "prompt") await begin({
				kind: "distill",
				name: name.value,
				system_prompt: prompt,
				seed: 0,
				overwrite: false
			});
			else await begin({
				kind: "train",
				name: name.value,
				toml: await readyToml(),
				effort,
				seed: 0,
				overwrite: false
			});
			announce(`Making ${name.value} has begun`);
			scrollTo({ top: 0 });
		} catch (problem) {
			setError(problem);
		} finally {
			setBeginning(false);
		}
	};
	return k$2("form", {
		class: "stack",
		"aria-label": "A new vector",
		onSubmit: (event) => {
			event.preventDefault();
			start();
		}
	}, k$2("fieldset", { class: "stack tight" }, k$2("legend", null, "Where from"), k$2("div", { class: "row" }, Object.keys(SOURCES).map((each) => k$2("label", {
		key: each,
		class: "check"
	}, k$2("input", {
		type: "radio",
		name: "source",
		checked: source === each,
		onChange: () => set({ source: each })
	}), SOURCES[each])))), source === "poles" && k$2(Poles, null), source === "file" && k$2(FromFile, null), source === "prompt" && k$2(Prompt, { blocked: able?.gradients === false }), k$2("label", { class: "field" }, k$2("span", { class: "label" }, "Name"), k$2("input", {
		value: form.value.name,
		placeholder: name.value,
		maxLength: 64,
		pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
		title: "Letters, digits, '.', '_' and '-'",
		autocomplete: "off",
		onInput: (event) => set({ name: event.currentTarget.value })
	}), taken && k$2("span", { class: "warn" }, "▲ You have a vector ", name.value, ". Choose another name.")), source !== "prompt" && k$2("fieldset", { class: "stack tight" }, k$2("legend", null, "Effort"), EFFORTS$1.map((each) => k$2("label", {
		key: each,
		class: "check"
	}, k$2("input", {
		type: "radio",
		name: "effort",
		checked: effort === each,
		onChange: () => set({ effort: each })
	}), k$2("span", null, ABOUT[each], " ", k$2(Time, { seconds: expected(`train ${each}`) }))))), error !== null && k$2(Problem, { error }), draftProblem.value && source !== "prompt" && k$2(Problem, { error: draftProblem.value }), k$2("p", null, k$2("button", {
		class: "go",
		disabled: !ready || taken || beginning
	}, source === "prompt" ? "Compile" : "Train", seconds !== null && `: about ${duration(seconds)} on this machine`)));
}
function Time({ seconds }) {
	return seconds === null ? null : k$2("span", { class: "soft" }, "(about ", duration(seconds), ")");
}
function Poles() {
	return k$2($, null, k$2(Pole, {
		side: "positive",
		sign: "+",
		title: "Towards"
	}), k$2(Pole, {
		side: "negative",
		sign: "−",
		title: "Against"
	}), k$2("p", { class: "hint" }, "Several ways of saying a pole make a better vector. Give both poles as many, line by line alike but for the point."), k$2(Hints, null));
}
function Pole({ side, sign, title }) {
	const ways = form.value[side];
	const change = (next) => set({ [side]: next });
	return k$2("fieldset", { class: `pole stack tight ${side === "negative" ? "against" : ""}` }, k$2("legend", null, title, " (", sign, ")"), ways.map((way, n) => k$2("div", {
		key: n,
		class: "way"
	}, k$2("label", { for: `${side}-${n}` }, "You are", k$2("span", { class: "vh" }, ", ", title.toLowerCase(), ", way ", n + 1)), k$2("input", {
		id: `${side}-${n}`,
		value: way,
		placeholder: n === 0 ? EXAMPLES[side] : "another way to say it",
		maxLength: 1e3,
		autocomplete: "off",
		onInput: (event) => change(ways.map((old, at) => at === n ? event.currentTarget.value : old))
	}), ways.length > 1 && k$2("button", {
		type: "button",
		class: "quiet icon",
		"aria-label": `Remove way ${n + 1}`,
		onClick: () => change(ways.filter((_, at) => at !== n))
	}, "✕"))), k$2("p", null, k$2("button", {
		type: "button",
		class: "link",
		disabled: ways.length >= 16,
		onClick: () => {
			change([...ways, ""]);
			setTimeout(() => document.getElementById(`${side}-${ways.length}`)?.focus());
		}
	}, "Add another way to say it")));
}
function FromFile() {
	const [problem, setProblem] = d$2(null);
	const take = async (chosen) => {
		setProblem(null);
		if (!chosen) return;
		try {
			file.value = {
				name: chosen.name,
				toml: asToml(chosen.name, await chosen.text(), form.value.name)
			};
		} catch (error) {
			file.value = null;
			setProblem(error);
		}
	};
	return k$2($, null, k$2("div", { class: "field" }, k$2("label", { for: "behaviour-file" }, "Behaviour or pairs"), k$2("input", {
		id: "behaviour-file",
		type: "file",
		accept: ".toml,.json,.jsonl",
		onChange: (event) => void take(event.currentTarget.files?.[0])
	}), k$2("p", { class: "hint" }, "A behaviour as .toml or .json; or pairs as .jsonl or .json, each an object with \"positive\" and \"negative\". It is read in the browser and sent to your own server alone.")), file.value && k$2("p", null, file.value.name, " is read", draft.value?.name ? k$2($, null, " as the behaviour ", k$2("strong", null, draft.value.name)) : null, "."), problem !== null && k$2(Problem, { error: problem }), k$2(Hints, null));
}
function Prompt({ blocked }) {
	return k$2("div", { class: "stack tight" }, k$2("label", { class: "field" }, k$2("span", { class: "label" }, "System prompt"), k$2("textarea", {
		rows: 5,
		value: form.value.prompt,
		placeholder: "Answer in one short sentence.",
		onInput: (event) => set({ prompt: event.currentTarget.value })
	})), k$2("p", { class: "hint" }, "The vector then does what the prompt asks for, at strength 1, without its tokens in every request."), blocked && k$2("p", { class: "warn" }, "▲ This model has no gradients, so prompts cannot be compiled. Use two poles instead."));
}
// src/parts/pairs-preview.tsx
function PairsPreview() {
	if (form.value.source === "prompt") return null;
	const preview = draft.value?.preview;
	return k$2("section", {
		class: "stack tight",
		"aria-label": "What the model will read"
	}, k$2("h2", null, "What the model will read"), !preview ? k$2("p", { class: "soft" }, "Pairs of texts that differ in the poles alone appear here as you write.") : k$2($, null, k$2("p", { class: "soft" }, preview.pairs.length, " of ", preview.total, " pairs. The model's hidden states at the end of each text are compared."), k$2("ol", { class: "preview" }, preview.pairs.map((pair, n) => {
		const [plus, minus] = parted(pair.positive, pair.negative);
		return k$2("li", {
			key: n,
			class: "stack tight"
		}, k$2(Text, {
			sign: "+",
			parts: plus
		}), k$2(Text, {
			sign: "−",
			parts: minus
		}));
	}))));
}
function Text({ sign, parts: [before, own, after] }) {
	return k$2("pre", {
		class: sign === "+" ? "" : "against",
		tabIndex: 0,
		role: "group",
		"aria-label": sign === "+" ? "Towards" : "Against"
	}, sign, " ", before, k$2("mark", null, own), after);
}
function parted(a, b) {
	const [as, bs] = [a.split(/\b/), b.split(/\b/)];
	let [start, end] = [0, 0];
	while (start < Math.min(as.length, bs.length) && as[start] === bs[start]) start++;
	while (end < Math.min(as.length, bs.length) - start && as.at(-1 - end) === bs.at(-1 - end)) end++;
	const cut = (words) => [
		words.slice(0, start).join(""),
		words.slice(start, words.length - end).join(""),
		words.slice(words.length - end).join("")
	];
	return [cut(as), cut(bs)];
}
// src/places/make.tsx
var SHOWN = 6;
function Make() {
	A$1(() => void findJobs().catch(() => void 0), []);
	const making = jobs.value.filter((job) => (job.kind === "train" || job.kind === "distill") && !dismissed.value.includes(job.id));
	return k$2("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack"
	}, k$2("h1", null, "Make"), k$2(Undo, null), making.length > 0 && k$2("section", {
		class: "stack",
		"aria-label": "Vectors being made"
	}, making.slice(0, SHOWN).map((job) => k$2(JobPanel, {
		key: job.id,
		job
	}))), k$2("div", { class: "making" }, k$2(MakeForm, null), k$2(PairsPreview, null)));
}
// src/state/stream.ts
async function* pieces(asked, options) {
	const body = {
		...asked,
		model: info.value?.model.served_as,
		readings: options.readings,
		kl: asked.steering !== "none",
		logprobs: true,
		top_logprobs: 5,
		max_tokens: options.maxTokens,
		n: options.count,
		stream: true
	};
	for await (const event of events("/v1/chat/completions", {
		body,
		signal: options.signal
	})) {
		if (event.data === "[DONE]") return;
		const chunk = JSON.parse(event.data);
		const { error } = chunk;
		if (error) throw new ApiError(error.what ?? error.message, error.fix ?? null, error.code ?? "unknown", 500);
		yield* piecesOf(chunk);
	}
	throw new ApiError("the answer broke off", "the text so far is kept", "lost", 0);
}
function* piecesOf(chunk) {
	for (const { index, receipt, beyond_safe } of chunk.trimtab?.answers ?? []) yield {
		index,
		receipt,
		beyondSafe: beyond_safe
	};
	for (const { index, delta, finish_reason: finish, logprobs } of chunk.choices) {
		if (finish) yield {
			index,
			finish
		};
		const logprob = logprobs?.content[0];
		if (!delta.content && !delta.reasoning && !logprob) continue;
		const readings = Object.entries(chunk.trimtab?.readings ?? {}).map(([name, z]) => [name, z[0] ?? 0]);
		yield {
			index,
			token: {
				text: delta.content || delta.reasoning || "",
				readings: Object.fromEntries(readings),
				logprob: logprob?.logprob ?? null,
				others: (logprob?.top_logprobs ?? []).map((other) => ({
					text: other.token,
					logprob: other.logprob
				})),
				...delta.reasoning ? { thought: true } : {}
			}
		};
	}
}
// src/state/answering.ts
var FLUSH_AFTER = 40;
var MAX_READINGS = 16;
var TRIES = 5;
var TURNED_AFTER = 400;
var running = y$1([]);
var busy = O(() => running.value.length > 0);
var series = 0;
function ask(user) {
	stop();
	const example = turns.value.every((turn) => turn.example);
	const id = (turns.value.at(-1)?.id ?? 0) + 1;
	turns.value = [...example ? [] : turns.value, {
		id,
		user,
		dials: dials.value,
		answers: {},
		picked: {}
	}];
	answerTurn(id, shown$2.value);
}
function again() {
	const last = turns.value.at(-1);
	if (!last) return;
	stop();
	changeTurn(last.id, ({ example: _, ...turn }) => ({
		...turn,
		dials: dials.value
	}));
	answerTurn(last.id, shown$2.value);
}
async function rerunFrom(id) {
	stop();
	const mine = ++series;
	for (const turn of turns.value.filter((each) => each.id >= id)) {
		if (mine !== series) return;
		await answerTurn(turn.id, shown$2.value);
	}
}
async function answerTurn(id, columns) {
	await Promise.all(columns.map((column) => answerColumn(id, column)));
}
async function answerColumn(id, column) {
	const turn = turns.value.find((each) => each.id === id);
	if (!turn) return;
	const { steering, system } = asksFor(column, turn.dials);
	const { temperature, seed } = sampling.value;
	const blank = blankAnswer({
		steering,
		system,
		temperature,
		seed
	});
	changeTurn(id, (each) => ({
		...each,
		answers: {
			...each.answers,
			[column]: [blank]
		},
		picked: {
			...each.picked,
			[column]: 0
		}
	}));
	await run({
		id,
		column,
		first: 0,
		count: 1
	}, {
		messages: messagesOf(column, id, system),
		steering,
		temperature,
		seed
	});
}
async function moreSeeds(id, count = 3) {
	stop();
	await Promise.all(shown$2.value.map((column) => moreOf(id, column, count)));
}
async function moreOf(id, column, count) {
	const turn = turns.value.find((each) => each.id === id);
	const before = turn?.answers[column];
	if (!turn || !before) return;
	const { steering, system } = before[0];
	const temperature = sampling.value.temperature || .8;
	const seed = sampling.value.seed + before.length;
	const blanks = Array.from({ length: count }, (_, n) => blankAnswer({
		steering,
		system,
		temperature,
		seed: seed + n
	}));
	changeTurn(id, (each) => ({
		...each,
		answers: {
			...each.answers,
			[column]: [...before, ...blanks]
		}
	}));
	await run({
		id,
		column,
		first: before.length,
		count
	}, {
		messages: messagesOf(column, id, system),
		steering,
		temperature,
		seed
	});
}
async function goOn(id, column) {
	const turn = turns.value.find((each) => each.id === id);
	const answer = turn && pickedOf(turn, column);
	if (!turn || !answer) return;
	const soFar = textOf(answer);
	const { steering, system, temperature, seed } = answer;
	const messages = messagesOf(column, id, system);
	if (soFar) messages.push({
		role: "assistant",
		content: soFar
	});
	await run({
		id,
		column,
		first: turn.picked[column] ?? 0,
		count: 1
	}, {
		messages,
		steering,
		temperature,
		seed
	});
}
function stop() {
	series++;
	for (const controller of running.value) controller.abort();
}
function forget() {
	stop();
	turns.value = [];
	since.value = 0;
}
function answerAsTurned() {
	let timer;
	x(() => {
		clearTimeout(timer);
		const written = text.value;
		if (live.value && stale.value && written) timer = setTimeout(again, TURNED_AFTER);
	});
}
function blankAnswer(of) {
	return {
		...of,
		status: "waiting",
		tokens: [],
		finish: null,
		receipt: null,
		beyondSafe: false,
		seconds: 0,
		retryAt: null,
		error: null
	};
}
async function run(target, asked) {
	const controller = new AbortController();
	running.value = [...running.value, controller];
	const begun = performance.now();
	change(target, {
		status: "waiting",
		error: null,
		retryAt: null,
		finish: null
	});
	try {
		await withRetries(target, asked, controller.signal);
		flush();
		change(target, { status: "done" });
		say(target);
	} catch (error) {
		flush();
		if (controller.signal.aborted) change(target, { status: "stopped" });
		else if (error instanceof ApiError) {
			const { what, fix, code } = error;
			change(target, {
				status: error.status === 0 ? "lost" : "failed",
				error: {
					what,
					fix,
					code
				}
			});
			announce(`${TITLES[target.column]}: ${what}`);
		} else throw error;
	} finally {
		change(target, {
			seconds: (performance.now() - begun) / 1e3,
			retryAt: null
		});
		running.value = running.value.filter((each) => each !== controller);
	}
}
async function withRetries(target, asked, signal) {
	for (let tries = 1;; tries++) try {
		await stream(target, asked, signal);
		return;
	} catch (error) {
		if (!(error instanceof ApiError) || error.retryAfter === null || tries === TRIES) throw error;
		const { what, fix, code, retryAfter } = error;
		change(target, {
			retryAt: Date.now() + retryAfter * 1e3,
			error: {
				what,
				fix,
				code
			}
		});
		await pause(retryAfter * 1e3, signal);
		change(target, {
			retryAt: null,
			error: null
		});
	}
}
function pause(milliseconds, signal) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(resolve, milliseconds);
		signal.addEventListener("abort", () => {
			clearTimeout(timer);
			reject(new DOMException("stopped", "AbortError"));
		});
	});
}
function say(target) {
	const answer = turns.value.find((each) => each.id === target.id)?.answers[target.column]?.[target.first];
	if (!answer) return;
	const kl = answer.receipt?.kl;
	const spent = answer.steering === "none" ? "not steered" : kl == null ? "" : nats(kl);
	const parts = [`${countWords(textOf(answer))} words`, spent].filter(Boolean);
	announce(`${TITLES[target.column]}: answer finished, ${parts.join(", ")}`);
}
async function stream(target, asked, signal) {
	if (!info.value) await refresh();
	const options = {
		readings: readable(turns.value.find((turn) => turn.id === target.id)?.dials ?? []),
		maxTokens: sampling.value.maxTokens,
		count: target.count,
		signal
	};
	for await (const { index, token, ...part } of pieces(asked, options)) {
		const one = {
			...target,
			first: target.first + index,
			count: 1
		};
		if (token) arrived(one, token);
		else change(one, part);
	}
}
function readable(mix) {
	return [...new Set([colourBy.value, ...mix.map((dial) => dial.name)])].filter((name) => vectorOf.value.has(name)).slice(0, MAX_READINGS);
}
var pending = new Map();
var timer;
function arrived(target, token) {
	const place = `${target.id}/${target.column}/${target.first}`;
	const waiting = pending.get(place) ?? {
		target,
		tokens: []
	};
	waiting.tokens.push(token);
	pending.set(place, waiting);
	timer ??= setTimeout(flush, FLUSH_AFTER);
}
function flush() {
	clearTimeout(timer);
	timer = void 0;
	const waiting = [...pending.values()];
	pending.clear();
	for (const { target, tokens } of waiting) changeAnswers(target, (answer) => ({
		...answer,
		status: "streaming",
		tokens: [...answer.tokens, ...tokens]
	}));
}
function change(target, part) {
	if (part.status !== void 0 || part.receipt !== void 0) flush();
	changeAnswers(target, (answer) => ({
		...answer,
		...part
	}));
}
function changeAnswers(target, with_) {
	changeTurn(target.id, (turn) => {
		const list = turn.answers[target.column];
		if (!list) return turn;
		const changed = list.map((answer, n) => n >= target.first && n < target.first + target.count ? with_(answer) : answer);
		return {
			...turn,
			answers: {
				...turn.answers,
				[target.column]: changed
			}
		};
	});
}
// src/state/link.ts
var PLACE = "try";
function link() {
	const question = draft$1.value || (turns.value.at(-1)?.user ?? "");
	const fields = new URLSearchParams({
		steering: text.value,
		columns: shown$2.value.join(","),
		ask: question
	});
	return `${location.origin}${location.pathname}#${PLACE}?${fields}`;
}
function followAddress() {
	const given = takeAddress();
	x(() => {
		const address = link();
		if (!info.value || given.waiting) return;
		if (/^#?$|^#\/?try/.test(location.hash)) history.replaceState(null, "", address);
	});
	addEventListener("hashchange", takeAddress);
}
function takeAddress() {
	const state = { waiting: false };
	const [place, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
	if (place !== PLACE || !query) return state;
	const fields = new URLSearchParams(query);
	const columns = fields.get("columns")?.split(",").filter((name) => COLUMNS$1.includes(name));
	if (columns?.length) shown$2.value = COLUMNS$1.filter((column) => columns.includes(column));
	const question = fields.get("ask");
	if (question && question !== turns.value.at(-1)?.user) draft$1.value = question;
	const steering = fields.get("steering");
	if (steering && steering !== text.value) {
		state.waiting = true;
		take(steering).catch(() => void 0).finally(() => state.waiting = false);
	}
	return state;
}
// src/try/readings-by-turn.tsx
var WIDTH$1 = 600;
var HEIGHT$1 = 160;
var MOST$1 = 3;
function ReadingsByTurn({ name, onPick }) {
	const all = turns.value;
	const columns = shown$2.value;
	const x = (n) => all.length < 2 ? WIDTH$1 / 2 : 20 + n / (all.length - 1) * 560;
	const y = (z) => HEIGHT$1 / 2 - Math.min(Math.max(z, -3), MOST$1) / MOST$1 * (HEIGHT$1 / 2 - 10);
	const lines = columns.map((column) => ({
		column,
		points: all.flatMap((turn, n) => {
			const z = meanReading(turn.id, column, name);
			return z === null ? [] : [{
				n,
				z
			}];
		})
	}));
	return k$2("section", {
		class: "stack tight",
		"aria-labelledby": "by-turn"
	}, k$2("h3", { id: "by-turn" }, "Reading per turn"), k$2("svg", {
		class: "chart",
		viewBox: `0 0 ${WIDTH$1} ${HEIGHT$1}`,
		"aria-hidden": "true"
	}, k$2("line", {
		class: "axis",
		x1: "0",
		x2: WIDTH$1,
		y1: y(0),
		y2: y(0)
	}), lines.map(({ column, points }) => k$2("g", {
		key: column,
		class: column
	}, k$2("polyline", { points: points.map(({ n, z }) => `${x(n)},${y(z)}`).join(" ") }), points.map(({ n, z }) => k$2("circle", {
		key: n,
		cx: x(n),
		cy: y(z),
		r: "5",
		onClick: () => onPick(all[n].id)
	}))))), k$2("div", { class: "scroll" }, k$2("table", { class: "data" }, k$2("caption", { class: "vh" }, "Mean reading of ", name, " in standard deviations, by turn and column"), k$2("thead", null, k$2("tr", null, k$2("th", { scope: "col" }, "Turn"), columns.map((column) => k$2("th", {
		key: column,
		scope: "col",
		class: `number key ${column}`
	}, TITLES[column])))), k$2("tbody", null, all.map((turn, n) => k$2("tr", { key: turn.id }, k$2("th", { scope: "row" }, k$2("button", {
		type: "button",
		class: "link",
		onClick: () => onPick(turn.id)
	}, n + 1, ": ", turn.user.slice(0, 40))), columns.map((column) => {
		const z = meanReading(turn.id, column, name);
		return k$2("td", {
			key: column,
			class: "number"
		}, z === null ? "–" : signed(z, 1));
	})))))));
}
function meanReading(id, column, name) {
	const turn = turns.value.find((each) => each.id === id);
	const readings = turn && pickedOf(turn, column)?.tokens.flatMap((token) => name in token.readings ? [token.readings[name]] : []) || [];
	return readings.length ? readings.reduce((sum, z) => sum + z, 0) / readings.length : null;
}
// src/try/acts.tsx
var STRONGEST$1 = 3;
var actsOf = y$1(null);
function WhereItActs() {
	return actsOf.value === null ? null : k$2(Drawer, {
		key: actsOf.value,
		id: actsOf.value
	});
}
function Drawer({ id }) {
	const turn = turns.value.find((each) => each.id === id);
	const columns = shown$2.value.filter((column) => turn && pickedOf(turn, column));
	const column = useSignal(columns.includes("steered") ? "steered" : columns[0] ?? "plain");
	const reading = useSignal(null);
	const error = useSignal(null);
	const everything = useSignal(false);
	const name = colourBy.value;
	A$1(() => {
		const answer = turn && pickedOf(turn, column.value);
		if (!answer || !name) return;
		const messages = [...messagesOf(column.value, id, answer.system), {
			role: "assistant",
			content: textOf(answer)
		}];
		reading.value = error.value = null;
		api.POST("/v1/read", { body: {
			messages,
			vectors: [name],
			layers: true,
			raw: false
		} }).then((reply) => reading.value = unwrap(reply).data[0] ?? null).catch((problem) => error.value = problem);
	}, [column.value, name]);
	const answer = turn && pickedOf(turn, column.value);
	return k$2(Dialog, {
		title: `Where it acts: ${name}`,
		wide: true,
		onClose: () => actsOf.value = null
	}, k$2("div", { class: "stack" }, k$2("div", { class: "row" }, k$2("label", { class: "check" }, "Answer", k$2("select", {
		value: column.value,
		onChange: (event) => column.value = event.currentTarget.value
	}, columns.map((each) => k$2("option", {
		key: each,
		value: each
	}, TITLES[each])))), k$2("label", { class: "check" }, "Turn", k$2("select", {
		value: id,
		onChange: (event) => actsOf.value = Number(event.currentTarget.value)
	}, turns.value.map((each, n) => k$2("option", {
		key: each.id,
		value: each.id
	}, n + 1)))), k$2("label", { class: "check" }, k$2("input", {
		type: "checkbox",
		checked: everything.value,
		onChange: (event) => everything.value = event.currentTarget.checked
	}), "the question and signs too")), error.value !== null && k$2(Problem, { error: error.value }), !reading.value && error.value === null && k$2("p", { class: "soft" }, "Reading…"), reading.value && answer && k$2(Grid, {
		reading: reading.value,
		text: textOf(answer),
		everything: everything.value
	}), k$2(ReadingsByTurn, {
		name,
		onPick: (turnId) => {
			actsOf.value = null;
			document.getElementById(`turn-${turnId}`)?.scrollIntoView({ block: "start" });
		}
	})));
}
function Grid({ reading, text, everything }) {
	const table = T(null);
	const at = useSignal({
		row: 0,
		column: 0
	});
	const vector = reading.vectors[0];
	if (!vector?.z) return k$2("p", null, "This vector has no statistics of neutral texts, so its readings have no unit.");
	const from = everything ? 0 : firstOf(reading.pieces, text);
	const tokens = reading.pieces.map((_, n) => n).filter((n) => n >= from && (everything || reading.words[n]));
	const layers = vector.layers.map((layer, row) => ({
		layer,
		z: vector.z[row]
	}));
	const reads = new Set(vector.reading_layers);
	const current = layers[at.value.row] && tokens[at.value.column] !== void 0 ? at.value : {
		row: 0,
		column: 0
	};
	const move = (row, column) => {
		at.value = {
			row: Math.min(Math.max(row, 0), layers.length - 1),
			column: Math.min(Math.max(column, 0), tokens.length - 1)
		};
		table.current?.querySelector(`[data-at="${at.value.row}/${at.value.column}"]`)?.focus();
	};
	const chosen = layers[current.row];
	const piece = reading.pieces[tokens[current.column]];
	return k$2($, null, k$2("p", { class: "hint" }, "Standard deviations from neutral texts, by layer and word, read without steering; colours end at ±", STRONGEST$1, ". Layers with a dot are those that the reading is made of. Move with the arrow keys."), k$2("div", { class: "scroll grid-box" }, k$2("table", {
		ref: table,
		class: "grid",
		onKeyDown: (event) => {
			const { row, column } = current;
			if (event.key === "ArrowDown") move(row + 1, column);
			else if (event.key === "ArrowUp") move(row - 1, column);
			else if (event.key === "ArrowRight") move(row, column + 1);
			else if (event.key === "ArrowLeft") move(row, column - 1);
			else if (event.key === "Home") move(row, 0);
			else if (event.key === "End") move(row, tokens.length - 1);
			else return;
			event.preventDefault();
		}
	}, k$2("caption", { class: "vh" }, "Readings by layer and word"), k$2("thead", null, k$2("tr", null, k$2("th", { scope: "col" }, "layer"), tokens.map((n) => k$2("th", {
		key: n,
		scope: "col"
	}, reading.pieces[n].trim() || JSON.stringify(reading.pieces[n]))))), k$2("tbody", null, layers.map(({ layer, z }, row) => k$2("tr", { key: layer }, k$2("th", { scope: "row" }, layer, reads.has(layer) ? " •" : ""), tokens.map((n, column) => {
		const value = z[n] ?? 0;
		return k$2("td", {
			key: n,
			tabIndex: row === current.row && column === current.column ? 0 : -1,
			"data-at": `${row}/${column}`,
			class: value > 0 ? "towards-plus" : "towards-minus",
			style: { "--a": Math.min(Math.abs(value) / STRONGEST$1, 1).toFixed(2) },
			onFocus: () => at.value = {
				row,
				column
			}
		}, signed(value, 1));
	})))))), k$2("p", {
		class: "number",
		role: "status"
	}, "Layer ", chosen.layer, ", “", piece?.trim(), "”: ", signed(chosen.z[tokens[current.column]] ?? 0, 2), " z"));
}
function firstOf(pieces, text) {
	const start = pieces.join("").lastIndexOf(text.trim());
	if (start < 0) return 0;
	let length = 0;
	return Math.max(0, pieces.findIndex((piece) => (length += piece.length) > start));
}
// src/try/add-vector.tsx
var addOpen = y$1(false);
var wanted = y$1("");
var untrained = y$1([]);
function AddVector() {
	if (!addOpen.value) return null;
	return k$2(Chooser, null);
}
function Chooser() {
	const close = () => addOpen.value = false;
	A$1(() => {
		wanted.value = "";
		api.GET("/v1/behaviours").then((answer) => untrained.value = unwrap(answer).data.filter((each) => !each.trained), () => void 0);
	}, []);
	const error = useSignal(null);
	const train = (name) => {
		trainBehaviour(name).then(close, (problem) => error.value = problem);
	};
	const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
	const fits = (...texts) => words.every((word) => texts.join(" ").toLowerCase().includes(word));
	const list = vectors.value.filter((each) => fits(each.name, each.poles?.["+"], each.poles?.["-"], each.verdict ?? "")).toSorted((a, b) => rank(a.verdict) - rank(b.verdict) || (b.times_prompt ?? 0) - (a.times_prompt ?? 0) || a.name.localeCompare(b.name));
	const others = untrained.value.filter((each) => !vectorOf.value.has(each.name) && fits(each.name, each.positive, each.negative));
	const broken = Object.entries(unusable.value).filter(([name]) => fits(name));
	const model = info.value?.model.name ?? "this model";
	return k$2(Dialog, {
		title: "Add a behaviour",
		onClose: close
	}, k$2("div", { class: "stack" }, k$2("div", { class: "field" }, k$2("label", { for: "find-vector" }, "Search"), k$2("input", {
		id: "find-vector",
		type: "search",
		ref: focusFirst,
		value: wanted.value,
		onInput: (event) => wanted.value = event.currentTarget.value
	})), k$2("p", {
		class: "hint",
		role: "status"
	}, list.length, " of ", vectors.value.length, " behaviours of ", model, ", best first"), k$2("ul", { class: "choices" }, list.map((vector) => k$2("li", { key: vector.name }, k$2("button", {
		type: "button",
		disabled: dials.value.some((dial) => dial.name === vector.name && dial.text === void 0),
		onClick: () => {
			add(vector.name);
			close();
		}
	}, k$2("span", null, k$2("b", null, vector.name), " ", k$2("span", { class: "soft" }, vector.poles ? `− ${vector.poles["-"]} … ${vector.poles["+"]} +` : "a vector of yours")), k$2("span", { class: "small soft" }, facts(vector)))))), others.length > 0 && k$2("section", { class: "stack tight" }, k$2("h3", null, "Not trained for this model"), k$2("p", { class: "hint" }, "Training takes some minutes, beside the answers."), error.value !== null && k$2(Problem, { error: error.value }), k$2("ul", { class: "plain-list" }, others.map(({ name }) => k$2("li", {
		key: name,
		class: "row"
	}, name, " ", k$2("button", {
		type: "button",
		class: "small",
		onClick: () => train(name)
	}, "Train it", k$2("span", { class: "vh" }, ": ", name)))))), broken.length > 0 && k$2("section", { class: "stack tight" }, k$2("h3", null, "Files that cannot be used"), k$2("ul", { class: "plain-list small" }, broken.map(([name, why]) => k$2("li", { key: name }, k$2("b", null, name), ": ", why, " ", k$2("a", {
		href: "#/make",
		onClick: close
	}, "Train it for this model"))))), !list.length && !others.length && k$2("p", null, "Nothing is called that. ", k$2("a", {
		href: "#/make",
		onClick: close
	}, "Make it"))));
}
function focusFirst(input) {
	input?.setAttribute("autofocus", "");
}
function facts(vector) {
	const safe = safeOf(vector);
	return [
		`${glyph(vector.verdict)} ${vector.verdict ?? "not evaluated"}`,
		vector.times_prompt !== null && `${vector.times_prompt.toFixed(1)} × a prompt`,
		safe ? `safe from ${signed(safe.low)} to ${signed(safe.high)}` : "safe range not measured"
	].filter(Boolean).join(" · ");
}
// src/try/by-turn.tsx
function ByTurn() {
	const all = turns.value;
	if (all.length < 2) return null;
	const names = [...new Set(all.flatMap((turn) => turn.dials).concat(dials.value).filter((dial) => dial.text === void 0).map((dial) => dial.name))];
	const changed = all.findIndex((turn) => shown$2.value.some((column) => isStale(turn, column)));
	return k$2("details", { class: "by-turn" }, k$2("summary", null, "Dials by turn"), k$2("div", { class: "scroll" }, k$2("table", null, k$2("thead", null, k$2("tr", null, k$2("td", null), all.map((turn, n) => k$2("th", {
		key: turn.id,
		scope: "col",
		class: "small"
	}, "turn ", n + 1)))), k$2("tbody", null, names.map((name) => k$2("tr", { key: name }, k$2("th", {
		scope: "row",
		class: "small"
	}, name), all.map((turn, n) => k$2("td", { key: turn.id }, k$2(Cell, {
		turn,
		name,
		number: n + 1,
		last: n === all.length - 1
	})))))))), changed >= 0 && k$2("button", {
		type: "button",
		onClick: () => void rerun(all[changed], changed === all.length - 1)
	}, "Answer again from turn ", changed + 1));
}
async function rerun(turn, last) {
	const newest = turns.value.at(-1);
	if (last || turn !== newest) turns.value = turns.value.map((each) => each === newest ? {
		...each,
		dials: dials.value
	} : each);
	await rerunFrom(turn.id);
}
function Cell({ turn, name, number, last }) {
	const dial = (last ? dials.value : turn.dials).find((each) => each.name === name && each.text === void 0);
	const strength = dial?.on ? dial.strength : 0;
	return k$2("input", {
		type: "number",
		class: strength > 0 ? "cell towards-plus" : strength < 0 ? "cell towards-minus" : "cell",
		style: { "--a": Math.min(Math.abs(strength), 1) },
		min: -MAX_STRENGTH,
		max: MAX_STRENGTH,
		step: STEP,
		value: strength,
		"aria-label": `${name} at turn ${number}`,
		onChange: (event) => {
			const value = event.currentTarget.valueAsNumber;
			if (!Number.isFinite(value)) return;
			if (last) setStrength(name, value);
			else turnOf(turn.id, name, value);
		}
	});
}
// src/try/budget.tsx
var MOST = 1.5;
var WORDS = [...LEVELS.map(({ upto }) => upto), MOST].map((upto, n, ends) => {
	const middle = ((ends[n - 1] ?? 0) + upto) / 2;
	return {
		middle,
		word: strengthWord(middle)
	};
});
function Budget() {
	const now = check.value;
	if (!now?.ok) return null;
	const terms = now.terms;
	const known = terms.filter((term) => term.kl !== null);
	const together = now.kl;
	const alone = known.reduce((sum, term) => sum + term.kl, 0);
	const scale = together === null || together === void 0 || alone === 0 ? 1 : together / alone;
	const says = together == null ? "not known, as a term was never calibrated" : `${together.toFixed(2)} nat a token, ${strengthWord(together)}`;
	const at = (kl) => `${Math.min(kl / MOST, 1) * 100}%`;
	return k$2("section", {
		class: "budget stack tight",
		"aria-labelledby": "budget"
	}, k$2("h2", { id: "budget" }, "Budget: ", says), k$2("div", {
		class: "meter",
		role: "img",
		"aria-label": `${says}; from 1.1 nat on, text breaks`
	}, known.map((term, n) => k$2("span", {
		key: term.text,
		class: `part-${n % 3}`,
		style: { width: at(term.kl * scale) }
	})), LEVELS.map(({ upto }) => k$2("i", {
		key: upto,
		style: { left: at(upto) }
	}))), k$2("div", {
		class: "ticks tiny soft",
		"aria-hidden": "true"
	}, LEVELS.map(({ upto }) => k$2("span", {
		key: upto,
		style: { left: at(upto) }
	}, upto)), WORDS.map(({ word, middle }) => k$2("b", {
		key: word,
		style: { left: at(middle) }
	}, word))), terms.length > 1 && k$2("p", { class: "small" }, terms.map((term) => `${term.vector} ${term.kl === null ? "?" : term.kl.toFixed(2)}`).join(" + "), together != null && ` = ${together.toFixed(2)} together`), pairs(now).map((words) => k$2("p", {
		key: words,
		class: "small soft"
	}, words)), now.warnings.map((warning) => k$2("p", {
		key: warning,
		class: "warn small"
	}, "▲ ", sentence$1(warning))));
}
function pairs(now) {
	const { cosines, terms } = now;
	if (!cosines) return [];
	return terms.flatMap((term, a) => terms.slice(a + 1).map((other, more) => {
		const cosine = cosines[a]?.[a + 1 + more] ?? 0;
		return `${terms.length > 2 ? `${term.vector} and ${other.vector}` : "They"} ${shareWords(cosine)} (cos ${cosine.toFixed(2).replace("-", "−")})`;
	}));
}
function TextForm() {
	const typed = useSignal(null);
	const mistake = useSignal(null);
	const put = async (input) => {
		const written = typed.value?.trim();
		if (written === void 0 || written === text.value) {
			typed.value = mistake.value = null;
			return;
		}
		const answer = await take(written || "none").catch(() => null);
		if (!answer) return;
		mistake.value = answer.ok ? null : answer.error;
		if (answer.ok) typed.value = null;
		const column = answer.error?.column;
		if (column) input.setSelectionRange(column - 1, column);
	};
	const { column, what, fix } = mistake.value ?? {};
	return k$2("form", {
		class: "field",
		onSubmit: (event) => {
			event.preventDefault();
			put(event.currentTarget.elements.namedItem("steering"));
		}
	}, k$2("label", { for: "steering" }, "As text"), k$2("span", { class: "row nowrap" }, k$2("input", {
		id: "steering",
		name: "steering",
		class: "mono grow",
		spellcheck: false,
		autocomplete: "off",
		value: typed.value ?? text.value,
		"aria-invalid": mistake.value ? "true" : void 0,
		"aria-describedby": mistake.value ? "steering-mistake" : void 0,
		onInput: (event) => typed.value = event.currentTarget.value,
		onBlur: (event) => typed.value !== null && void put(event.currentTarget)
	}), typed.value !== null && k$2("button", null, "Set")), mistake.value && k$2("div", {
		id: "steering-mistake",
		class: "small",
		role: "alert"
	}, column && k$2("pre", {
		class: "caret",
		"aria-hidden": "true"
	}, typed.value, "\n", " ".repeat(column - 1), "^"), k$2("p", { class: "warn" }, "▲ ", sentence$1(what ?? "")), fix && k$2("p", null, sentence$1(fix.split("\n")[0]))));
}
// src/try/dial.tsx
var PAGE = .25;
function Dial({ dial, at }) {
	const vector = vectorOf.value.get(dial.name);
	if (dial.text !== void 0) return k$2(FixedTerm, {
		text: dial.text,
		at,
		on: dial.on
	});
	if (!vector && info.value) return k$2(Missing, {
		name: dial.name,
		at
	});
	const safe = safeOf(vector);
	const id = `dial-${at}`;
	const plus = vector?.poles?.["+"] ?? dial.name;
	const minus = vector?.poles?.["-"] ?? "the opposite";
	const inside = isInside(dial.strength, safe);
	const turn$1 = (strength) => turn(at, { strength: tidy(Math.min(Math.max(strength, -MAX_STRENGTH), MAX_STRENGTH)) });
	const towards = dial.strength === 0 ? "off" : `${signed(dial.strength)} towards ${dial.strength > 0 ? plus : minus}`;
	const kl = klOf(dial);
	const spends = kl === null ? "" : nats(kl);
	const limits = safe && `${signed(safe.low)} to ${signed(safe.high)}`;
	const beyond = inside ? "" : `outside of its safe range, ${limits}: ${reason(safe)}`;
	return k$2("section", {
		class: "dial card",
		"aria-labelledby": `${id}-name`,
		"data-dial": dial.name
	}, k$2("div", { class: "row head" }, k$2("h2", { id: `${id}-name` }, dial.name), vector?.verdict && k$2("span", {
		class: "tag",
		title: "Verdict of its card"
	}, vector.verdict), k$2("label", { class: "check end" }, k$2("input", {
		type: "checkbox",
		checked: dial.on,
		"aria-label": `${dial.name} is on`,
		onChange: (event) => turn(at, { on: event.currentTarget.checked })
	}), "on"), k$2("button", {
		type: "button",
		class: "quiet icon",
		"aria-label": `Remove ${dial.name}`,
		title: "Remove",
		onClick: () => remove(at)
	}, "✕")), k$2("div", { class: dial.on ? "range" : "range off" }, k$2(Track, {
		safe,
		strength: dial.strength
	}), k$2("input", {
		id,
		type: "range",
		min: -MAX_STRENGTH,
		max: MAX_STRENGTH,
		step: "any",
		value: dial.strength,
		disabled: !dial.on,
		"aria-label": `${dial.name}: strength`,
		"aria-valuetext": [
			towards,
			spends,
			beyond
		].filter(Boolean).join(", "),
		"data-range": true,
		onInput: (event) => turn$1(Math.round(Number(event.currentTarget.value) / STEP) * STEP),
		onKeyDown: (event) => {
			const next = keyed(event.key, dial.strength, safe);
			if (next === null || event.ctrlKey || event.metaKey || event.altKey) return;
			event.preventDefault();
			turn$1(next);
		}
	})), k$2("div", { class: "poles small" }, k$2("span", { class: "minus" }, "− ", minus), k$2("span", {
		class: "soft",
		"aria-hidden": "true"
	}, "0"), k$2("span", { class: "plus" }, plus, " +")), k$2("div", { class: "row says" }, k$2("input", {
		type: "number",
		min: -MAX_STRENGTH,
		max: MAX_STRENGTH,
		step: STEP,
		value: dial.strength,
		disabled: !dial.on,
		"aria-label": `${dial.name}: strength as a number`,
		onChange: (event) => {
			const value = event.currentTarget.valueAsNumber;
			if (Number.isFinite(value)) turn$1(value);
			event.currentTarget.value = String(dial.strength);
		}
	}), k$2("span", { class: "number small grow" }, dial.on ? spends || "…" : "off", inside && k$2("span", { class: "soft" }, " · ", safe ? `safe from ${limits}` : "safe range not measured"))), beyond && k$2("p", { class: "warn small" }, "▲ ", sentence(beyond)), k$2("div", { class: "row" }, k$2("button", {
		type: "button",
		class: "small",
		onClick: () => openBreaks(dial.name)
	}, "Find where it breaks", k$2("span", { class: "vh" }, ": ", dial.name)), k$2("button", {
		type: "button",
		class: "quiet small",
		onClick: () => openCard(dial.name)
	}, "Card", k$2("span", { class: "vh" }, " of ", dial.name))));
}
function keyed(key, strength, safe) {
	if (key === "ArrowRight" || key === "ArrowUp") return strength + STEP;
	if (key === "ArrowLeft" || key === "ArrowDown") return strength - STEP;
	if (key === "PageUp") return strength + PAGE;
	if (key === "PageDown") return strength - PAGE;
	if (key === "Home") return safe?.low ?? -1.5;
	if (key === "End") return safe?.high ?? 1.5;
	return key === "0" ? 0 : null;
}
function reason(safe) {
	return /\((.*)\)$/.exec(safe.why)?.[1]?.replace(/^beyond, /, "") ?? safe.why;
}
function sentence(text) {
	return text[0].toUpperCase() + text.slice(1);
}
function Track({ safe, strength }) {
	const place = (value) => `${(value + MAX_STRENGTH) / (2 * MAX_STRENGTH) * 100}%`;
	const range = safe ?? {
		low: -1.5,
		high: 1.5
	};
	const from = Math.min(strength, 0);
	const to = Math.max(strength, 0);
	return k$2("div", {
		class: "track",
		"aria-hidden": "true"
	}, k$2("i", {
		class: "safe",
		style: {
			left: place(range.low),
			right: `calc(100% - ${place(range.high)})`
		}
	}), k$2("i", {
		class: strength < 0 ? "turned minus" : "turned",
		style: {
			left: place(from),
			right: `calc(100% - ${place(to)})`
		}
	}), k$2("i", { class: "zero" }));
}
function FixedTerm({ text, at, on }) {
	return k$2("section", {
		class: "dial card fixed",
		"aria-label": `Term ${text}`
	}, k$2("div", { class: "row head" }, k$2("code", { class: "grow" }, text), k$2("label", { class: "check" }, k$2("input", {
		type: "checkbox",
		checked: on,
		"aria-label": `${text} is on`,
		onChange: (event) => turn(at, { on: event.currentTarget.checked })
	}), "on"), k$2("button", {
		type: "button",
		class: "quiet icon",
		"aria-label": `Remove ${text}`,
		title: "Remove",
		onClick: () => remove(at)
	}, "✕")), k$2("p", { class: "hint" }, "Only its text form can change it."));
}
function Missing({ name, at }) {
	return k$2("section", {
		class: "dial card",
		"aria-label": `Dial ${name}, which cannot be turned`
	}, k$2("div", { class: "row head" }, k$2("h2", { class: "grow" }, name), k$2("button", {
		type: "button",
		class: "quiet icon",
		"aria-label": `Remove ${name}`,
		title: "Remove",
		onClick: () => remove(at)
	}, "✕")), k$2("p", { class: "small" }, k$2("span", { class: "warn" }, "▲ Not used: "), unusable.value[name] ?? "there is no vector of this name for this model.", " ", k$2("a", { href: "#/make" }, "Train it for this model")));
}
// src/try/rail.tsx
var sheetOpen = y$1(false);
function openSheet() {
	sheetOpen.value = true;
	requestAnimationFrame(() => document.querySelector(".sheet-closer")?.focus());
}
function closeSheet() {
	if (!sheetOpen.value) return;
	sheetOpen.value = false;
	document.querySelector(".sheet-opener")?.focus();
}
function Rail() {
	const none = info.value !== null && vectors.value.length === 0;
	return k$2("aside", {
		id: "dials",
		class: sheetOpen.value ? "rail open" : "rail",
		"aria-label": "Dials"
	}, k$2("div", { class: "row" }, k$2("h2", { class: "grow" }, "Dials"), k$2("button", {
		type: "button",
		class: "sheet-closer",
		onClick: closeSheet
	}, "Close", k$2("span", { class: "vh" }, " the dials"))), none && k$2("div", { class: "notice" }, k$2("p", null, "There are no vectors for ", info.value.model.name, " yet. ", k$2("a", { href: "#/make" }, "Train one"), ": a few minutes.")), dials.value.map((dial, at) => k$2(Dial, {
		key: `${dial.name}${dial.text ?? ""}`,
		dial,
		at
	})), k$2("button", {
		type: "button",
		onClick: () => addOpen.value = true
	}, "+ Add a behaviour"), k$2(Budget, null), k$2(TextForm, null), k$2("div", { class: "row" }, k$2("button", {
		type: "button",
		onClick: () => presetOpen.value = true
	}, "Save as preset"), k$2("button", {
		type: "button",
		"aria-keyshortcuts": "c",
		title: "C",
		onClick: openCode
	}, "Use in my app")));
}
// src/try/composer.tsx
function Composer() {
	const last = turns.value.at(-1);
	const send = () => {
		const text = draft$1.value.trim();
		if (!text) return;
		draft$1.value = "";
		ask(text);
		requestAnimationFrame(() => document.querySelector("article:last-of-type")?.scrollIntoView({ block: "start" }));
	};
	return k$2("form", {
		class: "composer",
		onSubmit: (event) => {
			event.preventDefault();
			send();
		}
	}, k$2("button", {
		type: "button",
		class: "sheet-opener",
		"aria-expanded": sheetOpen.value,
		"aria-controls": "dials",
		onClick: sheetOpen.value ? closeSheet : openSheet
	}, dials.value.map((dial, n) => {
		const kl = klOf(dial);
		return k$2("span", {
			key: n,
			class: "number"
		}, dial.text ?? `${dial.name} ${dial.on ? signed(dial.strength) : "off"}`, kl ? ` · ${kl.toFixed(2)} nat` : "");
	}), k$2("b", null, "Dials")), stale.value && last && k$2("p", { class: "stale small" }, "The answers are of ", k$2("code", null, mixText(last.dials)), ", the dials are at ", k$2("code", null, text.value), "."), k$2("label", {
		for: "message",
		class: "vh"
	}, "Your message"), k$2("textarea", {
		id: "message",
		rows: 1,
		placeholder: turns.value.length ? "Ask with and without the dials…" : "How was your day?",
		value: draft$1.value,
		onInput: (event) => draft$1.value = event.currentTarget.value,
		onKeyDown: (event) => {
			if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
			event.preventDefault();
			send();
		}
	}), busy.value && k$2("button", {
		type: "button",
		onClick: stop,
		title: "Esc"
	}, "Stop"), last && !busy.value && k$2("button", {
		type: "button",
		class: (stale.value || last.example) && !draft$1.value.trim() ? "go" : "",
		onClick: again,
		"aria-keyshortcuts": "r",
		title: "R"
	}, last.example ? "Answer" : "Answer again"), k$2("button", {
		class: draft$1.value.trim() ? "go" : "",
		disabled: !draft$1.value.trim()
	}, "Send"));
}
// src/state/export.ts
function asMarkdown() {
	const lines = [`# Conversation with ${info.value?.model.name ?? "a model"}`, ""];
	turns.value.forEach((turn, n) => {
		lines.push(`## Turn ${n + 1}`, "", `Dials: \`${mixText(turn.dials)}\``, "", ...quote(turn.user), "");
		for (const column of COLUMNS$1) {
			const answer = pickedOf(turn, column);
			if (!answer) continue;
			const kl = answer.receipt?.kl;
			const with_ = answer.system ?? (answer.steering === "none" ? "" : answer.steering);
			lines.push(`### ${TITLES[column]}${with_ && ` (${with_})`}`, "", textOf(answer) || "(no answer)", "");
			if (answer.receipt && answer.receipt.tokens > 0) lines.push(`*${kl == null ? "" : `${kl.toFixed(2)} nat, `}${answer.receipt.layers.length} layers, ${answer.receipt.tokens} tokens steered*`, "");
		}
	});
	return lines.join("\n");
}
function quote(text) {
	return text.split("\n").map((line) => `> ${line}`);
}
function asJson() {
	return JSON.stringify({
		model: info.value?.model,
		version: info.value?.version,
		sampling: sampling.value,
		turns: turns.value
	}, null, 2);
}
function save(name, type, text) {
	const url = URL.createObjectURL(new Blob([text], { type }));
	const anchor = document.createElement("a");
	anchor.href = url;
	anchor.download = name;
	anchor.click();
	setTimeout(() => URL.revokeObjectURL(url), 1e4);
}
// src/try/toolbar.tsx
var BESIDE = [
	["plain", "as it is"],
	["opposite", "the other way"],
	["prompt", "a system prompt instead"]
];
function Toolbar() {
	return k$2("div", { class: "toolbar stack tight" }, k$2("div", { class: "row" }, k$2("fieldset", { class: "row" }, k$2("legend", { class: "vh" }, "Beside the steered answer"), k$2("span", {
		class: "soft small",
		"aria-hidden": "true"
	}, "Beside it"), BESIDE.map(([column, label]) => k$2("label", {
		key: column,
		class: "check small"
	}, k$2("input", {
		type: "checkbox",
		checked: shown$2.value.includes(column),
		onChange: (event) => setShown(column, event.currentTarget.checked)
	}), label))), k$2(ColourBy, null), k$2("button", {
		type: "button",
		class: "small",
		disabled: !turns.value.length || !vectorOf.value.has(colourBy.value),
		onClick: () => actsOf.value = turns.value.at(-1).id
	}, "Where it acts"), k$2(More, null)), shown$2.value.includes("prompt") && k$2(SystemPrompt, null));
}
function ColourBy() {
	const names = [...new Set([...dials.value.map((dial) => dial.name), colourBy.value])].filter((name) => vectorOf.value.has(name));
	const others = vectors.value.map((vector) => vector.name).filter((name) => !names.includes(name));
	return k$2("label", { class: "check small" }, "Colour words by", k$2("select", {
		value: vectorOf.value.has(colourBy.value) ? colourBy.value : "",
		onChange: (event) => colourBy.value = event.currentTarget.value
	}, k$2("option", { value: "" }, "nothing"), names.map((name) => k$2("option", { key: name }, name)), others.length > 0 && k$2("optgroup", { label: "Other vectors" }, others.map((name) => k$2("option", { key: name }, name)))));
}
function More() {
	const set = (part) => sampling.value = {
		...sampling.value,
		...part
	};
	const most = info.value?.limits.answer_tokens ?? 4096;
	return k$2("details", {
		class: "more",
		onKeyDown: closeOnEscape
	}, k$2("summary", { class: "small" }, "More"), k$2("div", { class: "card stack" }, k$2(NumberField, {
		label: "Length in tokens, at most",
		min: 1,
		max: most,
		step: 1,
		value: sampling.value.maxTokens,
		onSet: (maxTokens) => set({ maxTokens })
	}), k$2(NumberField, {
		label: "Temperature; 0 is greedy",
		min: 0,
		max: 2,
		step: .1,
		value: sampling.value.temperature,
		onSet: (temperature) => set({ temperature })
	}), k$2(NumberField, {
		label: "Seed",
		min: 0,
		max: 2 ** 31,
		step: 1,
		value: sampling.value.seed,
		onSet: (seed) => set({ seed })
	}), k$2("label", { class: "check small" }, k$2("input", {
		type: "checkbox",
		checked: live.value,
		onChange: (event) => live.value = event.currentTarget.checked
	}), "Answer again as I turn a dial"), k$2("div", { class: "row" }, k$2("button", {
		type: "button",
		onClick: () => save("conversation.md", "text/markdown", asMarkdown())
	}, "Save as Markdown"), k$2("button", {
		type: "button",
		onClick: () => save("conversation.json", "application/json", asJson())
	}, "Save as JSON"), k$2("button", {
		type: "button",
		onClick: () => void navigator.clipboard?.writeText(link()).then(() => announce("Link copied"))
	}, "Copy link")), k$2("button", {
		type: "button",
		onClick: forget
	}, "New conversation")));
}
function closeOnEscape(event) {
	const details = event.currentTarget;
	if (event.key !== "Escape" || !details.open) return;
	event.preventDefault();
	event.stopPropagation();
	details.open = false;
	details.querySelector("summary")?.focus();
}
function NumberField({ label, min, max, step, value, onSet }) {
	return k$2("label", { class: "check small" }, k$2("input", {
		type: "number",
		min,
		max,
		step,
		value,
		onChange: (event) => {
			const given = event.currentTarget.valueAsNumber;
			if (Number.isFinite(given)) onSet(Math.min(Math.max(given, min), max));
			event.currentTarget.value = String(value);
		}
	}), label);
}
var added = y$1(null);
function SystemPrompt() {
	const written = promptText.value;
	A$1(() => {
		const timer = setTimeout(() => void countTokens(written), 400);
		return () => clearTimeout(timer);
	}, [written, info.value]);
	return k$2("div", { class: "row" }, k$2("label", {
		for: "system",
		class: "small"
	}, "System prompt"), k$2("input", {
		id: "system",
		class: "grow",
		value: systemPrompt.value || written,
		"aria-describedby": "system-tokens",
		onChange: (event) => systemPrompt.value = event.currentTarget.value.trim()
	}), k$2("span", {
		id: "system-tokens",
		class: "small soft number"
	}, added.value === null ? "" : added.value < 0 ? `${-added.value} tokens less than the template's own prompt` : `+${added.value} tokens in every request`));
}
async function countTokens(system) {
	const model = info.value?.model.served_as;
	if (!model) return;
	const count = async (with_) => {
		const body = {
			model,
			messages: [{
				role: "user",
				content: "Hello"
			}],
			...with_
		};
		return unwrap(await api.POST("/v1/messages/count_tokens", { body })).input_tokens;
	};
	added.value = await Promise.all([count({ system }), count({})]).then(([more, less]) => more - less, () => null);
}
// src/try/words.tsx
var STRONGEST = 3;
var LEAST = .5;
var WIDTH = 264;
var HEIGHT = 215;
function Words({ tokens, colour, label }) {
	const [at, setAt] = d$2(null);
	const box = T(null);
	const spans = w$2(() => tokens.map((token, n) => k$2(Word, {
		key: n,
		token,
		colour
	})), [tokens, colour]);
	const current = at === null ? null : tokens[at];
	A$1(() => {
		const span = at === null ? null : box.current?.children[at];
		span?.classList.add("current");
		return () => span?.classList.remove("current");
	}, [at, spans]);
	const move = (by) => {
		let next = at === null ? by > 0 ? 0 : tokens.length - 1 : at + by;
		while (tokens[next]?.text === "") next += by;
		if (tokens[next]) setAt(next);
	};
	return k$2("div", { class: "answer-text" }, k$2("div", {
		ref: box,
		class: "words",
		role: "log",
		"aria-live": "off",
		"aria-label": label,
		tabIndex: 0,
		onClick: (event) => {
			const n = [...event.currentTarget.children].indexOf(event.target);
			setAt(n < 0 || n === at ? null : n);
		},
		onBlur: () => setAt(null),
		onKeyDown: (event) => {
			if (event.key === "ArrowRight") move(1);
			else if (event.key === "ArrowLeft") move(-1);
			else if (event.key === "Home") setAt(0);
			else if (event.key === "End") setAt(tokens.length - 1);
			else if (event.key === "Enter") setAt(at === null ? 0 : null);
			else if (event.key === "Escape" && at !== null) setAt(null);
			else return;
			event.preventDefault();
			event.stopPropagation();
		}
	}, spans), k$2("div", {
		class: "vh",
		role: "status"
	}, current && spoken(current)), current && k$2(Details, {
		token: current,
		style: place$1(box.current, at)
	}));
}
function Word({ token, colour }) {
	const z = token.readings[colour] ?? 0;
	const kind = token.thought ? "thought" : Math.abs(z) < LEAST ? "" : z > 0 ? "towards-plus" : "towards-minus";
	const style = kind.startsWith("towards") ? { "--a": Math.min(Math.abs(z) / STRONGEST, 1).toFixed(2) } : void 0;
	return k$2("span", {
		class: kind || void 0,
		style
	}, token.text);
}
function place$1(box, at) {
	const span = box?.children[at];
	if (!box || !span) return {
		left: "0",
		top: "100%"
	};
	const left = `${Math.max(0, Math.min(span.offsetLeft, box.clientWidth - WIDTH))}px`;
	const composer = document.querySelector(".composer")?.offsetHeight ?? 0;
	return span.getBoundingClientRect().bottom + HEIGHT > innerHeight - composer ? {
		left,
		bottom: `${box.clientHeight - span.offsetTop + 4}px`
	} : {
		left,
		top: `${span.offsetTop + span.offsetHeight + 4}px`
	};
}
function Details({ token, style }) {
	return k$2("div", {
		class: "details card",
		style: { ...style },
		"aria-hidden": "true"
	}, k$2("p", null, k$2("code", null, JSON.stringify(token.text)), token.logprob !== null && ` ${percent(token.logprob)} likely`), Object.entries(token.readings).map(([name, z]) => k$2("p", {
		key: name,
		class: "number"
	}, "reads ", signed(z, 1), " z ", name)), token.others.length > 0 && k$2("table", null, k$2("caption", { class: "soft" }, "Most likely here"), k$2("tbody", null, token.others.map((other, n) => k$2("tr", { key: n }, k$2("td", null, k$2("code", null, JSON.stringify(other.text))), k$2("td", { class: "number" }, percent(other.logprob)))))));
}
function spoken(token) {
	const readings = Object.entries(token.readings).map(([name, z]) => `${signed(z, 1)} ${name}`);
	const others = token.others.filter((other) => other.text !== token.text).map((other) => `${other.text.trim()} ${percent(other.logprob)}`);
	return [
		token.text.trim() || "white space",
		token.logprob !== null && percent(token.logprob),
		readings.length > 0 && `reads ${readings.join(", ")}`,
		others.length > 0 && `or ${others.join(", ")}`
	].filter(Boolean).join("; ");
}
// src/try/column.tsx
function Column({ turn, column }) {
	const answer = pickedOf(turn, column);
	const title = TITLES[column];
	return k$2("div", {
		role: "group",
		class: `answer ${column}`,
		"aria-label": title
	}, k$2("header", { class: "row" }, k$2("h3", null, title), answer && k$2("span", { class: "soft small steering" }, column === "prompt" ? `“${answer.system ?? ""}”` : answer.steering === "none" ? "" : answer.steering), answer?.status === "streaming" && k$2(Rate, { answer })), answer ? k$2(Shown, {
		turn,
		column,
		answer
	}) : k$2(NotAnswered, {
		turn,
		column
	}));
}
function Rate({ answer }) {
	return k$2("span", { class: "row end small soft number" }, answer.seconds > 0 && `${(answer.tokens.length / answer.seconds).toFixed(0)} tokens/s`, k$2("button", {
		type: "button",
		class: "small",
		onClick: stop
	}, "Stop"));
}
function NotAnswered({ turn, column }) {
	return k$2("p", null, k$2("button", {
		type: "button",
		onClick: () => void answerColumn(turn.id, column)
	}, "Answer here"));
}
function Shown({ turn, column, answer }) {
	const { status, tokens } = answer;
	const working = status === "waiting" || status === "streaming";
	const text = textOf(answer);
	return k$2($, null, k$2(Seeds, {
		turn,
		column
	}), tokens.length > 0 && k$2(Words, {
		tokens,
		colour: colourBy.value,
		label: `${TITLES[column]}, turn ${turn.id}`
	}), status === "waiting" && (answer.retryAt ? k$2(Queue, { answer }) : tokens.length === 0 && k$2("p", { class: "soft" }, "Waiting for the first word…")), !working && !text.trim() && status === "done" && k$2("p", { class: "soft" }, "(no answer)"), k$2(Trouble, {
		turn,
		column,
		answer
	}), !working && k$2(Receipt, {
		answer,
		column
	}), text && distinctShare(text) < .75 && k$2(Loops, {
		share: distinctShare(text),
		column
	}), !working && isStale(turn, column) && k$2("p", { class: "small soft" }, "answered ", column === "prompt" ? "with another prompt" : `at ${answer.steering}`));
}
function Seeds({ turn, column }) {
	const answers = turn.answers[column] ?? [];
	if (answers.length < 2) return null;
	const picked = turn.picked[column] ?? 0;
	return k$2("div", {
		class: "row seeds",
		role: "group",
		"aria-label": `${TITLES[column]}: seeds`
	}, answers.map((answer, n) => k$2("button", {
		key: n,
		type: "button",
		class: "small",
		"aria-pressed": n === picked,
		title: `seed ${answer.seed}, temperature ${answer.temperature}`,
		onClick: () => pick(turn.id, column, n)
	}, "seed ", answer.seed, answer.temperature === 0 ? ", greedy" : "")));
}
function Queue({ answer }) {
	const left = useSignal(0);
	A$1(() => {
		const count = () => left.value = Math.max(0, Math.ceil((answer.retryAt - Date.now()) / 1e3));
		count();
		const timer = setInterval(count, 500);
		return () => clearInterval(timer);
	}, [answer.retryAt]);
	return k$2("p", { class: "soft" }, answer.error?.what, "; asked again in ", left.value, " s");
}
function Trouble({ turn, column, answer }) {
	const { status, error, finish } = answer;
	const text = textOf(answer);
	const retry = k$2("button", {
		type: "button",
		onClick: () => void answerColumn(turn.id, column)
	}, "Answer again");
	const on = text.trim() && k$2("button", {
		type: "button",
		onClick: () => void goOn(turn.id, column)
	}, "Go on");
	if (status === "stopped") return k$2("p", { class: "row small" }, k$2("span", { class: "soft" }, "Stopped."), on, retry);
	if (status === "done" && finish === "length") return k$2("p", { class: "row small" }, k$2("span", { class: "soft" }, "Cut at ", answer.tokens.length, " tokens."), on);
	if (!error || status === "waiting" || status === "streaming" || status === "done") return null;
	const full = error.code === "bad_prompt" && /tokens/.test(error.what);
	const shorter = Math.floor(sampling.value.maxTokens / 2);
	return k$2(Problem, { error }, on, retry, full && k$2("button", {
		type: "button",
		onClick: () => {
			forgetFirst();
			answerTurn(turn.id, shown$2.value);
		}
	}, "Forget the first turn"), (full || /memory/.test(error.what)) && shorter >= 16 && k$2("button", {
		type: "button",
		onClick: () => {
			sampling.value = {
				...sampling.value,
				maxTokens: shorter
			};
			answerTurn(turn.id, shown$2.value);
		}
	}, "At most ", shorter, " tokens"));
}
function Receipt({ answer, column }) {
	const { receipt, tokens } = answer;
	const read = colourBy.value;
	const readings = tokens.filter((token) => read in token.readings).map((token) => token.readings[read]);
	const mean = readings.reduce((sum, z) => sum + z, 0) / readings.length;
	if (!tokens.length) return null;
	const steered = receipt !== null && receipt.tokens > 0;
	return k$2("p", { class: "receipt small" }, steered && receipt.kl != null && k$2("span", null, k$2("b", null, receipt.kl.toFixed(2)), " nat, ", nats(receipt.kl).split(", ")[1] ?? "nothing"), steered && k$2("span", null, k$2("b", null, receipt.layers.length), " layers, ", k$2("b", null, receipt.tokens), " tokens steered"), receipt && !steered && k$2("span", null, receipt.reason === "constrained" ? "not steered: it is constrained" : "not steered"), !receipt && column !== "plain" && column !== "prompt" && k$2("span", null, "no receipt: the answer did not end"), readings.length > 0 && k$2("span", null, "reads ", k$2("b", null, signed(mean, 1)), " z ", read), answer.beyondSafe && k$2("span", { class: "warn" }, "▲ outside of the safe range"));
}
function Loops({ share, column }) {
	const softer = column === "steered" || column === "opposite" ? softerDial(column) : null;
	return k$2("p", { class: "row small" }, k$2("span", { class: "warn" }, "▲ 3-word groups repeat: ", Math.round(share * 100), " % distinct"), softer && k$2("button", {
		type: "button",
		class: "small",
		onClick: () => turn(softer.at, { strength: softer.strength })
	}, "Turn ", softer.name, " down to ", signed(softer.strength)));
}
function softerDial(column) {
	const factor = column === "opposite" ? -1 : 1;
	const turned = dials.value.map((dial, at) => ({
		dial,
		at
	})).filter(({ dial }) => dial.on && dial.text === void 0 && dial.strength !== 0 && vectorOf.value.has(dial.name)).toSorted((a, b) => Math.abs(b.dial.strength) - Math.abs(a.dial.strength))[0];
	if (!turned) return null;
	const { dial, at } = turned;
	const safe = safeOf(vectorOf.value.get(dial.name));
	const strength = factor * dial.strength;
	const end = safe && !isInside(strength, safe) ? strength > 0 ? safe.high : safe.low : strength / 2;
	return {
		at,
		name: dial.name,
		strength: tidy(factor * end) || 0
	};
}
// src/try/turn.tsx
function Turn({ turn, number }) {
	const last = turn === turns.value.at(-1);
	const columns = shown$2.value;
	const stale = !last && columns.some((column) => isStale(turn, column));
	const forgotten = turn.id < since.value;
	return k$2("article", {
		class: "turn",
		id: `turn-${turn.id}`,
		"aria-label": `Turn ${number}`,
		tabIndex: -1
	}, turn.example && k$2("p", { class: "hint" }, "An example, which comes with trimtab: what this model has answered. Move the dial, then press ", k$2("b", null, "Answer"), "."), k$2("h2", { class: "asked" }, k$2("span", { class: "vh" }, "You: "), turn.user), forgotten && k$2("p", { class: "hint" }, "The model is not given this turn any more."), k$2("div", {
		class: "columns",
		style: { "--columns": columns.length }
	}, columns.map((column) => k$2(Column, {
		key: column,
		turn,
		column
	}))), k$2("div", { class: "row" }, stale && k$2("button", {
		type: "button",
		onClick: () => void rerunFrom(turn.id)
	}, "Answer again from here"), last && !turn.example && !busy.value && columns.some((column) => pickedOf(turn, column)) && k$2("button", {
		type: "button",
		onClick: () => void moreSeeds(turn.id)
	}, "Again ×3", k$2("span", { class: "vh" }, " with other seeds")), last && !turn.example && sampling.value.temperature === 0 && k$2("span", { class: "hint" }, "×3 uses other seeds at temperature ", .8)));
}
// src/places/try.tsx
function moveToDial(by) {
	const ranges = [...document.querySelectorAll("[data-range]")];
	const at = ranges.findIndex((range) => range.closest("section")?.contains(document.activeElement));
	if (ranges.length) ranges[(at < 0 ? by > 0 ? 0 : ranges.length - 1 : at + by + ranges.length) % ranges.length].focus();
}
var KEYS = [
	{
		key: "r",
		does: "Answer the last question again, with the dials as they are",
		run: again
	},
	{
		key: "[",
		does: "Previous dial",
		run: () => moveToDial(-1)
	},
	{
		key: "]",
		does: "Next dial",
		run: () => moveToDial(1)
	},
	{
		key: "Escape",
		does: "Stop the answers",
		run: () => {
			if (busy.value) stop();
			else closeSheet();
		}
	}
];
followAddress();
answerAsTurned();
function Try() {
	A$1(() => {
		placeKeys.value = KEYS;
		return () => placeKeys.value = [];
	}, []);
	return k$2("div", { class: "try" }, k$2(Rail, null), k$2("main", {
		id: "main",
		tabIndex: -1,
		"aria-label": "Answers"
	}, k$2("h1", { class: "vh" }, "Try"), k$2(Toolbar, null), k$2(ByTurn, null), turns.value.map((turn, n) => k$2(Turn, {
		key: turn.id,
		turn,
		number: n + 1
	})), k$2(Composer, null)), k$2(AddVector, null), k$2(WhereItActs, null));
}
// src/app.tsx
var PLACES = {
	try: {
		title: "Try",
		Page: Try
	},
	make: {
		title: "Make",
		Page: Make
	},
	library: {
		title: "Library",
		Page: Library
	}
};
var place = y$1(named(location.hash));
addEventListener("hashchange", () => place.value = named(location.hash));
function named(hash) {
	const name = hash.replace(/^#\/?/, "").split(/[/?]/)[0];
	return name in PLACES ? name : "try";
}
function App() {
	const { Page } = PLACES[place.value];
	return k$2($, null, k$2("a", {
		class: "skip",
		href: "#main",
		onClick: (event) => {
			event.preventDefault();
			document.getElementById("main")?.focus();
		}
	}, "Skip to the content"), k$2("header", { class: "top" }, k$2("span", { class: "brand" }, "trimtab"), k$2("nav", { "aria-label": "Places" }, Object.keys(PLACES).map((name) => k$2("a", {
		key: name,
		href: `#/${name}`,
		"aria-current": name === place.value ? "page" : void 0
	}, PLACES[name].title))), k$2("span", { class: "model" }, model()), k$2("button", {
		type: "button",
		class: "quiet icon keys",
		"aria-label": "Keys",
		title: "Keys",
		onClick: () => keysOpen.value = true
	}, "?")), offline.value && k$2("div", {
		class: "banner",
		role: "alert"
	}, k$2("span", null, "The server does not answer. Your text is kept."), k$2("button", {
		type: "button",
		onClick: () => void refresh()
	}, "Try again")), needsKey.value && k$2(KeyField, null), k$2(Page, null), k$2(Breaks, null), k$2(UseInApp, null), k$2(SavePreset, null), k$2(Keys, null), k$2("p", {
		class: "vh",
		role: "status",
		"aria-live": "polite"
	}, announced.value));
}
function model() {
	const about = info.value?.model;
	if (!about) return offline.value || needsKey.value ? "" : "Waiting for the model…";
	return [
		about.name.split("/").at(-1),
		about.device?.toUpperCase(),
		`${about.layers} layers`
	].filter(Boolean).join(" · ");
}
function KeyField() {
	return k$2("form", {
		class: "banner",
		onSubmit: (event) => {
			event.preventDefault();
			refresh();
		}
	}, k$2("label", { for: "key" }, "This server needs a key. It is kept until you close the page."), k$2("input", {
		id: "key",
		type: "password",
		autocomplete: "off",
		value: key.value,
		onInput: (event) => key.value = event.currentTarget.value
	}), k$2("button", { class: "go" }, "Use it"));
}
// src/state/first.ts
var EXAMPLE_MODEL = "smollm2";
var EXAMPLE_QUESTION = "How was your day?";
function showExample() {
	const end = x(() => {
		const model = info.value?.model.name;
		if (model === void 0) return;
		queueMicrotask(() => end());
		const shows = turns.peek().some((turn) => turn.example);
		if (model !== EXAMPLE_MODEL) {
			if (shows) turns.value = [];
			if ((shows || firstVisit) && !draft$1.peek()) draft$1.value = EXAMPLE_QUESTION;
		} else if (firstVisit) shipped("first.json").then((first) => {
			if (!turns.value.length) turns.value = [asTurn(first)];
		}, () => void 0);
	});
}
function asTurn({ question, vector, strength, answers }) {
	const shown = Object.entries(answers).map(([column, kept]) => [column, [asAnswer(kept, vector)]]);
	return {
		id: 1,
		user: question,
		dials: [{
			name: vector,
			strength,
			on: true
		}],
		answers: Object.fromEntries(shown),
		picked: {},
		example: true
	};
}
function asAnswer({ steering, tokens, finish, receipt }, vector) {
	return {
		status: "done",
		steering,
		system: null,
		seed: 0,
		temperature: 0,
		tokens: tokens.map((token) => asToken(token, vector)),
		finish,
		receipt,
		beyondSafe: false,
		seconds: 0,
		retryAt: null,
		error: null
	};
}
function asToken([text, reading, logprob, others], vector) {
	return {
		text,
		readings: { [vector]: reading },
		logprob,
		others: others.map(([other, its]) => ({
			text: other,
			logprob: its
		}))
	};
}
// src/main.tsx
refresh();
findJobs().catch(() => void 0);
listenForKeys();
showExample();
Q(k$2(App, null), document.getElementById("app"));
