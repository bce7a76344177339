// node_modules/preact/dist/preact.mjs
var n$1;
var t$2;
var r$2;
var u$3;
var i$2;
var f$3;
var o$3;
var e$2;
var l$2;
var c$2;
var a$3;
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
	(8 & t.__g || (t.__g |= 8, u$3.push(t), f$3++)) && i$2 == n$1.debounceRendering || ((i$2 = n$1.debounceRendering) || queueMicrotask)(H);
}
function H() {
	try {
		for (var n, t = 1; u$3.length;) u$3.length > t && u$3.sort(o$3), n = u$3.shift(), t = u$3.length, 8 & n.__g && C$1(n);
	} finally {
		(f$3 = u$3.length) && (i$2 || queueMicrotask)(H);
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
	else if ("o" == t[0] && "n" == t[1]) "function" != typeof r && (r = null), "function" != typeof u && (u = null), (n.__e || (n.__e = {}))[t] = r, r && u || (o = a$3[t] || (a$3[t] = V(t)), (n.__a || (n.__a = {}))[t] = c$2, f = t != (t = t.replace(l$2, "$1")), (t = t.slice(2))[0] < "a" && (t = t.toLowerCase()), r ? n.addEventListener(t, o, f) : n.removeEventListener(t, o, f));
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
	throw f$3 = 0, n;
} }, t$2 = 0, r$2 = function(n) {
	return null != n && n.constructor === h$3;
}, x$1.prototype.setState = function(n, t) {
	var r = this.__s;
	r && r != this.state || (r = this.__s = _$2({}, this.state)), "function" == typeof n && (n = n(_$2({}, r), this.props)), n && (_$2(r, n), this.__v && (t && this.__k.push(t), L(this)));
}, x$1.prototype.forceUpdate = function(n) {
	this.__v && (this.__g |= 4, n && this.__h.push(n), L(this));
}, x$1.prototype.render = $, u$3 = [], f$3 = 0, o$3 = function(n, t) {
	return n.__v.__b - t.__v.__b;
}, e$2 = Symbol(), l$2 = /(PointerCapture)$|Capture$/i, c$2 = 0, a$3 = {};
// node_modules/preact/hooks/dist/hooks.mjs
var t$1;
var r$1;
var u$2;
var i$1;
var o$2 = Object.is;
var f$2 = 0;
var c$1 = [];
var e$1 = [];
var a$2 = n$1;
var v$1 = a$2.__b;
var l$1 = a$2.__r;
var m$2 = a$2.diffed;
var h$2 = a$2.__c;
var s$1 = a$2.unmount;
var p$2 = a$2.__;
function y$2(n, t) {
	a$2.__h && a$2.__h(r$1, n, f$2 || t), f$2 = 0;
	var u = r$1.__H || (r$1.__H = {
		__: [],
		__h: []
	});
	return n >= u.__.length && u.__.push({}), u.__[n];
}
function d$2(n) {
	return f$2 = 1, _$1(G, n);
}
function _$1(n, u, i) {
	var f = y$2(t$1++, 2);
	if (f.t = n, !f.__c && (f.__ = [i ? i(u) : G(void 0, u), function(n) {
		var t = (f.__N || f.__)[0], r = f.t(t, n);
		o$2(t, r) || (f.__N = [r, f.__[1]], f.__c.setState({}));
	}], f.__c = r$1, !r$1.__f)) {
		r$1.__f = !0;
		var c = r$1.shouldComponentUpdate;
		r$1.shouldComponentUpdate = function(n, t, r) {
			var u = this.__H;
			if (!u) return !0;
			var i = !1, f = this.props != n;
			if (u.__.some(function(n) {
				n.__N && (i = !0, o$2(n.__[0], n.__N[0]) || (f = !0));
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
	!a$2.__s && E(i.__H, u) && (i.__P = !0, i.__ = n, i.u = u, r$1.__H.__h.push(i));
}
function T(n) {
	return f$2 = 5, w$2(function() {
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
			a$2.__e(t, { __: (n = n.__P) && n.__v });
		}
		for (; n = c$1.shift();) {
			var t = n.__H;
			if (n.__P && t) try {
				t.__h.some(C), t.__h.some(D), t.__h = [];
			} catch (r) {
				t.__h = [], a$2.__e(r, n.__v);
			}
		}
	} while (e$1.length);
}
a$2.__b = function(n) {
	r$1 = null, v$1 && v$1(n);
}, a$2.__ = function(n, t) {
	n && t.__k && t.__k.__m && (n.__m = t.__k.__m), p$2 && p$2(n, t);
}, a$2.__r = function(n) {
	l$1 && l$1(n), t$1 = 0;
	var i = (r$1 = n.__c).__H;
	i && (u$2 == r$1 ? r$1.__h = [] : (i.__h.some(C), i.__h.some(D), t$1 = 0), i.__h = [], i.__.some(function(n) {
		n.__N && (n.__ = n.__N), n.u = n.__N = void 0;
	})), u$2 = r$1;
}, a$2.diffed = function(n) {
	m$2 && m$2(n);
	var t = n.__c;
	t && t.__H && (t.__H.__h.length && B(c$1.push(t)), t.__H.__.some(function(n) {
		n.u && (n.__H = n.u);
	})), u$2 = r$1 = null;
}, a$2.__c = function(n, t) {
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
}, a$2.unmount = function(n) {
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
	}), u.__H = void 0, t && a$2.__e(t, u.__v));
};
var k$1 = "function" == typeof requestAnimationFrame;
function z(n) {
	var t, r = function() {
		clearTimeout(u), k$1 && cancelAnimationFrame(t), setTimeout(n);
	}, u = setTimeout(r, 35);
	k$1 && (t = requestAnimationFrame(r));
}
function B(n) {
	1 != n && i$1 == a$2.requestAnimationFrame || ((i$1 = a$2.requestAnimationFrame) || z)(g$2);
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
		return !o$2(t, n[r]);
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
	u$1 = ++e;
	v++;
	try {
		return i();
	} finally {
		t();
	}
}
var n;
var o$1 = void 0;
function f$1(i) {
	var t = o$1, r = n;
	o$1 = void 0;
	n = void 0;
	try {
		return i();
	} finally {
		o$1 = t;
		n = r;
	}
}
var h$1 = void 0;
var v = 0;
var s = 0;
var e = 0;
var u$1 = 0;
var c = void 0;
var a$1 = 0;
function d$1(i) {
	if (void 0 !== o$1) {
		var t = i.n;
		if (void 0 === t || t.t !== o$1) {
			t = {
				i: 0,
				S: i,
				p: o$1.s,
				n: void 0,
				t: o$1,
				e: void 0,
				x: void 0,
				r: t
			};
			if (void 0 !== o$1.s) o$1.s.n = t;
			o$1.s = t;
			i.n = t;
			if (32 & o$1.f) i.S(t);
			return t;
		} else if (-1 === t.i) {
			t.i = 0;
			if (void 0 !== t.n) {
				t.n.p = t.p;
				if (void 0 !== t.p) t.p.n = t.n;
				t.p = o$1.s;
				t.n = void 0;
				o$1.s.n = t;
				o$1.s = t;
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
		else f$1(function() {
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
			if (void 0 === n) f$1(function() {
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
		f$1(function() {
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
	return f$1(function() {
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
					if (i.l !== u$1) {
						i.l = u$1;
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
			a$1++;
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
	this.g = a$1 - 1;
	this.f = 4;
}
j.prototype = new l();
j.prototype.h = function() {
	this.f &= -3;
	if (1 & this.f) return !1;
	if (32 == (36 & this.f)) return !0;
	this.f &= -5;
	if (this.g === a$1) return !0;
	this.g = a$1;
	this.f |= 1;
	if (this.i > 0 && !w$1(this)) {
		this.f &= -2;
		return !0;
	}
	var i = o$1;
	try {
		b$1(this);
		o$1 = this;
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
	o$1 = i;
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
		var n = o$1;
		o$1 = void 0;
		try {
			r();
		} catch (t) {
			i.f &= -2;
			i.f |= 8;
			g$1(i);
			throw t;
		} finally {
			o$1 = n;
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
	if (o$1 !== this) throw new Error("Out-of-order effect");
	_(this);
	o$1 = i;
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
	var i = o$1;
	o$1 = this;
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
// node_modules/openapi-fetch/dist/index.mjs
var PATH_PARAM_RE = /\{[^{}]+\}/g;
var supportsRequestInitExt = () => {
	return typeof process === "object" && Number.parseInt(process?.versions?.node?.substring(0, 2)) >= 18 && process.versions.undici;
};
function randomID() {
	return Math.random().toString(36).slice(2, 11);
}
function createClient(clientOptions) {
	let { baseUrl = "", Request: CustomRequest = globalThis.Request, fetch: baseFetch = globalThis.fetch, querySerializer: globalQuerySerializer, bodySerializer: globalBodySerializer, pathSerializer: globalPathSerializer, headers: baseHeaders, requestInitExt = void 0, ...baseOptions } = { ...clientOptions };
	requestInitExt = supportsRequestInitExt() ? requestInitExt : void 0;
	baseUrl = removeTrailingSlash(baseUrl);
	const globalMiddlewares = [];
	async function coreFetch(schemaPath, fetchOptions) {
		const { baseUrl: localBaseUrl, fetch = baseFetch, Request = CustomRequest, headers, params = {}, parseAs = "json", querySerializer: requestQuerySerializer, bodySerializer = globalBodySerializer ?? defaultBodySerializer, pathSerializer: requestPathSerializer, body, middleware: requestMiddlewares = [], ...init } = fetchOptions || {};
		let finalBaseUrl = baseUrl;
		if (localBaseUrl) finalBaseUrl = removeTrailingSlash(localBaseUrl) ?? baseUrl;
		let querySerializer = typeof globalQuerySerializer === "function" ? globalQuerySerializer : createQuerySerializer(globalQuerySerializer);
		if (requestQuerySerializer) querySerializer = typeof requestQuerySerializer === "function" ? requestQuerySerializer : createQuerySerializer({
			...typeof globalQuerySerializer === "object" ? globalQuerySerializer : {},
			...requestQuerySerializer
		});
		const pathSerializer = requestPathSerializer || globalPathSerializer || defaultPathSerializer;
		const serializedBody = body === void 0 ? void 0 : bodySerializer(body, mergeHeaders(baseHeaders, headers, params.header));
		const finalHeaders = mergeHeaders(serializedBody === void 0 || serializedBody instanceof FormData ? {} : { "Content-Type": "application/json" }, baseHeaders, headers, params.header);
		const finalMiddlewares = [...globalMiddlewares, ...requestMiddlewares];
		const requestInit = {
			redirect: "follow",
			...baseOptions,
			...init,
			body: serializedBody,
			headers: finalHeaders
		};
		let id;
		let options;
		let request = new Request(createFinalURL(schemaPath, {
			baseUrl: finalBaseUrl,
			params,
			querySerializer,
			pathSerializer
		}), requestInit);
		let response;
		for (const key in init) if (!(key in request)) request[key] = init[key];
		if (finalMiddlewares.length) {
			id = randomID();
			options = Object.freeze({
				baseUrl: finalBaseUrl,
				fetch,
				parseAs,
				querySerializer,
				bodySerializer,
				pathSerializer
			});
			for (const m of finalMiddlewares) if (m && typeof m === "object" && typeof m.onRequest === "function") {
				const result = await m.onRequest({
					request,
					schemaPath,
					params,
					options,
					id
				});
				if (result) {
					if (result instanceof Request) request = result;
					else if (result instanceof Response) {
						response = result;
						break;
					} else throw new Error("onRequest: must return new Request() or Response() when modifying the request");
				}
			}
		}
		if (!response) {
			try {
				response = await fetch(request, requestInitExt);
			} catch (error2) {
				let errorAfterMiddleware = error2;
				if (finalMiddlewares.length) for (let i = finalMiddlewares.length - 1; i >= 0; i--) {
					const m = finalMiddlewares[i];
					if (m && typeof m === "object" && typeof m.onError === "function") {
						const result = await m.onError({
							request,
							error: errorAfterMiddleware,
							schemaPath,
							params,
							options,
							id
						});
						if (result) {
							if (result instanceof Response) {
								errorAfterMiddleware = void 0;
								response = result;
								break;
							}
							if (result instanceof Error) {
								errorAfterMiddleware = result;
								continue;
							}
							throw new Error("onError: must return new Response() or instance of Error");
						}
					}
				}
				if (errorAfterMiddleware) throw errorAfterMiddleware;
			}
			if (finalMiddlewares.length) for (let i = finalMiddlewares.length - 1; i >= 0; i--) {
				const m = finalMiddlewares[i];
				if (m && typeof m === "object" && typeof m.onResponse === "function") {
					const result = await m.onResponse({
						request,
						response,
						schemaPath,
						params,
						options,
						id
					});
					if (result) {
						if (!(result instanceof Response)) throw new Error("onResponse: must return new Response() when modifying the response");
						response = result;
					}
				}
			}
		}
		const contentLength = response.headers.get("Content-Length");
		if (response.status === 204 || request.method === "HEAD" || contentLength === "0" && !response.headers.get("Transfer-Encoding")?.includes("chunked")) return response.ok ? {
			data: void 0,
			response
		} : {
			error: void 0,
			response
		};
		if (response.ok) {
			const getResponseData = async () => {
				if (parseAs === "stream") return response.body;
				if (parseAs === "json" && !contentLength) {
					const raw = await response.text();
					return raw ? JSON.parse(raw) : void 0;
				}
				return await response[parseAs]();
			};
			return {
				data: await getResponseData(),
				response
			};
		}
		let error = await response.text();
		try {
			error = JSON.parse(error);
		} catch {}
		return {
			error,
			response
		};
	}
	return {
		request(method, url, init) {
			return coreFetch(url, {
				...init,
				method: method.toUpperCase()
			});
		},
		/** Call a GET endpoint */
		GET(url, init) {
			return coreFetch(url, {
				...init,
				method: "GET"
			});
		},
		/** Call a PUT endpoint */
		PUT(url, init) {
			return coreFetch(url, {
				...init,
				method: "PUT"
			});
		},
		/** Call a POST endpoint */
		POST(url, init) {
			return coreFetch(url, {
				...init,
				method: "POST"
			});
		},
		/** Call a DELETE endpoint */
		DELETE(url, init) {
			return coreFetch(url, {
				...init,
				method: "DELETE"
			});
		},
		/** Call a OPTIONS endpoint */
		OPTIONS(url, init) {
			return coreFetch(url, {
				...init,
				method: "OPTIONS"
			});
		},
		/** Call a HEAD endpoint */
		HEAD(url, init) {
			return coreFetch(url, {
				...init,
				method: "HEAD"
			});
		},
		/** Call a PATCH endpoint */
		PATCH(url, init) {
			return coreFetch(url, {
				...init,
				method: "PATCH"
			});
		},
		/** Call a TRACE endpoint */
		TRACE(url, init) {
			return coreFetch(url, {
				...init,
				method: "TRACE"
			});
		},
		/** Register middleware */
		use(...middleware) {
			for (const m of middleware) {
				if (!m) continue;
				if (typeof m !== "object" || !("onRequest" in m || "onResponse" in m || "onError" in m)) throw new Error("Middleware must be an object with one of `onRequest()`, `onResponse() or `onError()`");
				globalMiddlewares.push(m);
			}
		},
		/** Unregister middleware */
		eject(...middleware) {
			for (const m of middleware) {
				const i = globalMiddlewares.indexOf(m);
				if (i !== -1) globalMiddlewares.splice(i, 1);
			}
		}
	};
}
function serializePrimitiveParam(name, value, options) {
	if (value === void 0 || value === null) return "";
	if (typeof value === "object") throw new Error("Deeply-nested arrays/objects aren’t supported. Provide your own `querySerializer()` to handle these.");
	return `${name}=${options?.allowReserved === true ? value : encodeURIComponent(value)}`;
}
function serializeObjectParam(name, value, options) {
	if (!value || typeof value !== "object") return "";
	const values = [];
	const joiner = {
		simple: ",",
		label: ".",
		matrix: ";"
	}[options.style] || "&";
	if (options.style !== "deepObject" && options.explode === false) {
		for (const k in value) values.push(k, options.allowReserved === true ? value[k] : encodeURIComponent(value[k]));
		const final2 = values.join(",");
		switch (options.style) {
			case "form": return `${name}=${final2}`;
			case "label": return `.${final2}`;
			case "matrix": return `;${name}=${final2}`;
			default: return final2;
		}
	}
	for (const k in value) {
		const finalName = options.style === "deepObject" ? `${name}[${k}]` : k;
		values.push(serializePrimitiveParam(finalName, value[k], options));
	}
	const final = values.join(joiner);
	return options.style === "label" || options.style === "matrix" ? `${joiner}${final}` : final;
}
function serializeArrayParam(name, value, options) {
	if (!Array.isArray(value)) return "";
	if (options.explode === false) {
		const joiner2 = {
			form: ",",
			spaceDelimited: "%20",
			pipeDelimited: "|"
		}[options.style] || ",";
		const final = (options.allowReserved === true ? value : value.map((v) => encodeURIComponent(v))).join(joiner2);
		switch (options.style) {
			case "simple": return final;
			case "label": return `.${final}`;
			case "matrix": return `;${name}=${final}`;
			default: return `${name}=${final}`;
		}
	}
	const joiner = {
		simple: ",",
		label: ".",
		matrix: ";"
	}[options.style] || "&";
	const values = [];
	for (const v of value) if (options.style === "simple" || options.style === "label") values.push(options.allowReserved === true ? v : encodeURIComponent(v));
	else values.push(serializePrimitiveParam(name, v, options));
	return options.style === "label" || options.style === "matrix" ? `${joiner}${values.join(joiner)}` : values.join(joiner);
}
function createQuerySerializer(options) {
	return function querySerializer(queryParams) {
		const search = [];
		if (queryParams && typeof queryParams === "object") for (const name in queryParams) {
			const value = queryParams[name];
			if (value === void 0 || value === null) continue;
			if (Array.isArray(value)) {
				if (value.length === 0) continue;
				search.push(serializeArrayParam(name, value, {
					style: "form",
					explode: true,
					...options?.array,
					allowReserved: options?.allowReserved || false
				}));
				continue;
			}
			if (typeof value === "object") {
				search.push(serializeObjectParam(name, value, {
					style: "deepObject",
					explode: true,
					...options?.object,
					allowReserved: options?.allowReserved || false
				}));
				continue;
			}
			search.push(serializePrimitiveParam(name, value, options));
		}
		return search.join("&");
	};
}
function defaultPathSerializer(pathname, pathParams) {
	let nextURL = pathname;
	for (const match of pathname.match(PATH_PARAM_RE) ?? []) {
		let name = match.substring(1, match.length - 1);
		let explode = false;
		let style = "simple";
		if (name.endsWith("*")) {
			explode = true;
			name = name.substring(0, name.length - 1);
		}
		if (name.startsWith(".")) {
			style = "label";
			name = name.substring(1);
		} else if (name.startsWith(";")) {
			style = "matrix";
			name = name.substring(1);
		}
		if (!pathParams || pathParams[name] === void 0 || pathParams[name] === null) continue;
		const value = pathParams[name];
		if (Array.isArray(value)) {
			nextURL = nextURL.replace(match, serializeArrayParam(name, value, {
				style,
				explode
			}));
			continue;
		}
		if (typeof value === "object") {
			nextURL = nextURL.replace(match, serializeObjectParam(name, value, {
				style,
				explode
			}));
			continue;
		}
		if (style === "matrix") {
			nextURL = nextURL.replace(match, `;${serializePrimitiveParam(name, value)}`);
			continue;
		}
		nextURL = nextURL.replace(match, style === "label" ? `.${encodeURIComponent(value)}` : encodeURIComponent(value));
	}
	return nextURL;
}
function defaultBodySerializer(body, headers) {
	if (body instanceof FormData) return body;
	if (headers) {
		if ((headers.get instanceof Function ? headers.get("Content-Type") ?? headers.get("content-type") : headers["Content-Type"] ?? headers["content-type"]) === "application/x-www-form-urlencoded") return new URLSearchParams(body).toString();
	}
	return JSON.stringify(body);
}
function createFinalURL(pathname, options) {
	let finalURL = `${options.baseUrl}${pathname}`;
	if (options.params?.path) finalURL = options.pathSerializer(finalURL, options.params.path);
	let search = options.querySerializer(options.params.query ?? {});
	if (search.startsWith("?")) search = search.substring(1);
	if (search) finalURL += `?${search}`;
	return finalURL;
}
function mergeHeaders(...allHeaders) {
	const finalHeaders = new Headers();
	for (const h of allHeaders) {
		if (!h || typeof h !== "object") continue;
		const iterator = h instanceof Headers ? h.entries() : Object.entries(h);
		for (const [k, v] of iterator) if (v === null) finalHeaders.delete(k);
		else if (Array.isArray(v)) for (const v2 of v) finalHeaders.append(k, v2);
		else if (v !== void 0) finalHeaders.set(k, v);
	}
	return finalHeaders;
}
function removeTrailingSlash(url) {
	if (url.endsWith("/")) return url.substring(0, url.length - 1);
	return url;
}
// src/api.ts
/** What went wrong, where there is one, what to do about it, and after how many seconds to try again. */
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
/** Key for servers that need one; kept in memory only. */
var key = y$1("");
/** True while the server does not answer at all. */
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
var api = createClient({
	baseUrl: location.origin,
	fetch: send
});
/** Return the data of an answer, or raise what the server says is wrong. */
function unwrap(answer) {
	if (answer.response.ok) return answer.data;
	throw asApiError(answer.error, answer.response);
}
function asApiError(body, response) {
	const { error } = body ?? {};
	const retry = Number(response.headers.get("retry-after"));
	return new ApiError(error?.what ?? error?.message ?? `the server answers ${response.status}`, error?.fix ?? null, error?.code ?? "unknown", response.status, Number.isFinite(retry) && retry > 0 ? retry : null);
}
/** Yield the server-sent events of a request, until they end or the signal aborts. */
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
// src/charts/scale.ts
/** Return round numbers from low to high, about `most` of them. */
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
/** Return the place of a number between two others, in per cent and clamped to them. */
function percent(value, low, high) {
	return 100 * (Math.min(Math.max(value, low), high) - low) / (high - low || 1);
}
/** Return a number as it is read: few digits, and a minus sign that is one. */
function figure(value, digits = 3) {
	const rounded = Number(value.toPrecision(digits));
	return String(Math.abs(rounded) < 1e-9 ? 0 : rounded).replace("-", "−");
}
/** Return a span of seconds as people say it. */
function duration(seconds) {
	if (seconds < 10) return "a few seconds";
	if (seconds < 55) return `${Math.round(seconds / 5) * 5} seconds`;
	const minutes = Math.round(seconds / 30) / 2;
	if (minutes < 10) return minutes === 1 ? "1 minute" : `${String(minutes).replace(".5", "½").replace(/^0½/, "½")} minutes`;
	return `${Math.round(minutes)} minutes`;
}
// node_modules/preact/jsx-runtime/dist/jsxRuntime.mjs
var f = Symbol.for("pv");
var o = 0;
Array.isArray;
function a(t, e, n, u, a, i) {
	e || (e = {});
	var c, l, p = e;
	if ("ref" in p && "function" != typeof t) for (l in p = {}, e) "ref" == l ? c = e[l] : p[l] = e[l];
	var s = {
		type: t,
		props: p,
		key: n,
		ref: c,
		__k: null,
		__: null,
		__b: 0,
		__e: null,
		__c: null,
		constructor: f,
		__v: --o,
		__i: -1,
		__u: 0
	};
	return (a || i) && (s.__source = a, s.__self = i), n$1.vnode && n$1.vnode(s), s;
}
// src/charts/line-chart.tsx
var ROOM = .08;
/** A measure over strength: points with their intervals, the safe zone and the range of chance shaded. Places are in
* per cent, so that text keeps its size on any screen. */
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
	if (mark) values.push(mark.at);
	const span = Math.max(...values) - Math.min(...values) || 1;
	const [low, high] = [Math.min(...values) - ROOM * span, Math.max(...values) + ROOM * span];
	const across = (x) => `${3 + .94 * percent(x, left, right)}%`;
	const up = (y) => `${100 - percent(y, low, high)}%`;
	return /* @__PURE__ */ a("div", {
		class: "chart",
		role: "img",
		"aria-label": summary,
		children: [
			/* @__PURE__ */ a("p", {
				class: "title",
				children: title
			}),
			/* @__PURE__ */ a("div", {
				class: "scale",
				style: { height: `${height}px` },
				children: ticks(low, high).map((tick) => /* @__PURE__ */ a("span", {
					style: { top: up(tick) },
					children: figure(tick)
				}, tick))
			}),
			/* @__PURE__ */ a("svg", {
				width: "100%",
				height,
				children: [
					zone && zone.high > zone.low && /* @__PURE__ */ a("rect", {
						class: "zone",
						x: across(Math.max(zone.low, left)),
						width: `${.94 * (percent(zone.high, left, right) - percent(zone.low, left, right))}%`,
						y: "0",
						height: "100%"
					}),
					band && /* @__PURE__ */ a("rect", {
						class: "chance",
						x: "0",
						width: "100%",
						y: up(band.high),
						height: `${percent(band.high, low, high) - percent(band.low, low, high)}%`
					}),
					ticks(low, high).map((tick) => /* @__PURE__ */ a("line", {
						class: "grid",
						x1: "0",
						x2: "100%",
						y1: up(tick),
						y2: up(tick)
					}, tick)),
					left < 0 && right > 0 && /* @__PURE__ */ a("line", {
						class: "zero",
						x1: across(0),
						x2: across(0),
						y1: "0",
						y2: "100%"
					}),
					mark && /* @__PURE__ */ a("line", {
						class: "mark",
						x1: "0",
						x2: "100%",
						y1: up(mark.at),
						y2: up(mark.at)
					}),
					mark && /* @__PURE__ */ a("text", {
						x: "100%",
						y: up(mark.at),
						dx: "-4",
						dy: "-4",
						"text-anchor": "end",
						children: mark.label
					}),
					sorted.slice(1).map((point, n) => /* @__PURE__ */ a("line", {
						class: "line",
						x1: across(sorted[n].x),
						y1: up(sorted[n].y),
						x2: across(point.x),
						y2: up(point.y)
					}, point.x)),
					sorted.map((point) => /* @__PURE__ */ a(Dot, {
						point,
						across,
						up
					}, point.x))
				]
			}),
			/* @__PURE__ */ a("div", {
				class: "strengths",
				children: labelled(xs, left, right).map((x) => /* @__PURE__ */ a("span", {
					style: { left: across(x) },
					children: figure(x)
				}, x))
			})
		]
	});
}
function Dot({ point, across, up }) {
	const [x, y] = [across(point.x), up(point.y)];
	return /* @__PURE__ */ a("g", {
		class: `dot ${point.x > 0 ? "plus" : point.x < 0 ? "minus" : "base"}`,
		children: [point.low !== void 0 && point.high !== void 0 && /* @__PURE__ */ a("line", {
			class: "whisker",
			x1: x,
			x2: x,
			y1: up(point.low),
			y2: up(point.high)
		}), point.broken ? /* @__PURE__ */ a("text", {
			class: "broken",
			x,
			y,
			dy: "5",
			"text-anchor": "middle",
			children: "▲"
		}) : /* @__PURE__ */ a("circle", {
			cx: x,
			cy: y,
			r: "4.5"
		})]
	});
}
/** Return the strengths that have room for a label: where they would overlap, whole ones and those near 0 win. */
function labelled(xs, left, right) {
	const taken = [];
	const order = [...xs].sort((a, b) => Number(!Number.isInteger(a)) - Number(!Number.isInteger(b)) || Math.abs(a) - Math.abs(b));
	for (const x of order) if (taken.every((other) => Math.abs(other - x) > .11 * (right - left))) taken.push(x);
	return taken;
}
// src/charts/numbers.tsx
function Numbers({ caption, head, rows }) {
	return /* @__PURE__ */ a("details", {
		class: "numbers",
		children: [/* @__PURE__ */ a("summary", { children: "The same as numbers" }), /* @__PURE__ */ a("div", {
			class: "scroll",
			tabIndex: 0,
			role: "region",
			"aria-label": caption,
			children: /* @__PURE__ */ a("table", {
				class: "data",
				children: [
					/* @__PURE__ */ a("caption", {
						class: "vh",
						children: caption
					}),
					/* @__PURE__ */ a("thead", { children: /* @__PURE__ */ a("tr", { children: head.map((each) => /* @__PURE__ */ a("th", {
						scope: "col",
						children: each
					}, each)) }) }),
					/* @__PURE__ */ a("tbody", { children: rows.map(([first, ...others]) => /* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("th", {
						scope: "row",
						children: first
					}), others.map((each, n) => /* @__PURE__ */ a("td", { children: each }, n))] }, first)) })
				]
			})
		})]
	});
}
// src/state/announce.ts
var announced = y$1("");
/** Say something once in the page's live region. */
function announce(text) {
	announced.value = announced.value === text ? `${text}\u00a0` : text;
}
// src/state/kept.ts
/** Return a signal whose value is read from the browser's storage, and written there as it changes. */
function kept(name, initial, valid) {
	const place = `trimtab.${name}`;
	const found = y$1(read$1(place, initial, valid));
	x(() => {
		try {
			localStorage.setItem(place, JSON.stringify(found.value));
		} catch {}
	});
	return found;
}
function read$1(place, initial, valid) {
	try {
		const value = JSON.parse(localStorage.getItem(place) ?? "null");
		return valid(value) ? value : initial;
	} catch {
		return initial;
	}
}
// src/state/server.ts
var info = y$1(null);
var vectors = y$1([]);
/** Why files in the server's folder are no vectors for this model, by name. */
var unusable = y$1({});
var needsKey = y$1(false);
var vectorOf = O(() => new Map(vectors.value.map((vector) => [vector.name, vector])));
/** Read what the server has. */
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
var dials = kept("dials", [{
	name: "happy",
	strength: .5,
	on: true
}], isDials);
/** Safe ranges as they were found on the user's own prompts in this session, by vector. */
var narrowed = y$1({});
/** Return the text form of a mix; strengths are multiplied by `factor` (−1 is the other way). */
function mixText(mix, factor = 1) {
	return mix.filter((dial) => dial.on && (dial.text !== void 0 || dial.strength !== 0)).map((dial) => dial.text ?? `${dial.name}:${tidy(dial.strength * factor)}`).join(" + ") || "none";
}
var text = O(() => mixText(dials.value));
/** The server's reading of the current mix: predicted KL, cosines, warnings. */
var check = y$1(null);
/** Set the strength of a dial, or whether it is on. */
function turn(name, change) {
	dials.value = dials.value.map((dial) => dial.name === name ? {
		...dial,
		...change
	} : dial);
}
function add(name) {
	if (dials.value.some((dial) => dial.name === name)) return;
	const strength = vectorOf.value.get(name)?.default_strength ?? .5;
	dials.value = [...dials.value, {
		name,
		strength,
		on: true
	}];
}
/** Return what the server makes of a text form. */
async function checked(written) {
	return unwrap(await api.POST("/v1/steering/check", { body: { steering: written } }));
}
var asked$1 = 0;
x(() => {
	const written = text.value;
	const number = ++asked$1;
	setTimeout(() => {
		if (number !== asked$1) return;
		checked(written).then((answer) => {
			if (number === asked$1) check.value = answer;
		}, () => void 0);
	}, 120);
});
/** Return a strength without the noise of binary fractions. */
function tidy(strength) {
	return Math.round(strength * 1e3) / 1e3;
}
/** Return a strength with its sign. */
function signed(value, digits = 2) {
	const rounded = Number(value.toFixed(digits));
	return rounded > 0 ? `+${rounded}` : rounded < 0 ? `−${-rounded}` : "0";
}
function isDials(value) {
	return Array.isArray(value) && value.every((dial) => typeof dial?.name === "string" && typeof dial.strength === "number" && typeof dial.on === "boolean");
}
// src/state/jobs.ts
var WAITING_MS = 2e3;
/** The server's jobs, the newest first; those that have ended come without results until they are read. */
var jobs = y$1([]);
/** Jobs that need not be shown any more, by id. */
var dismissed = kept("dismissed", [], isNames);
function dismiss(id) {
	dismissed.value = [...dismissed.value.slice(-200), id];
}
/** Return the name of the vector that a job is about. */
function nameOf(job) {
	return "name" in job.fields ? job.fields.name : job.fields.vector;
}
function hasEnded(job) {
	return job.status !== "queued" && job.status !== "running";
}
/** Find the jobs that the server has, and follow those that have not ended. */
async function findJobs() {
	const list = unwrap(await api.GET("/v1/jobs")).data;
	jobs.value = list;
	for (const job of list) if (!hasEnded(job)) follow(job);
}
/** Begin a job. */
async function begin(fields) {
	const job = unwrap(await api.POST("/v1/jobs", { body: fields }));
	follow(job);
	return job;
}
async function halt(id) {
	put(unwrap(await api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } } })));
}
async function resume(id) {
	follow(unwrap(await api.POST("/v1/jobs/{job_id}/resume", { params: { path: { job_id: id } } })));
}
/** Read a job with its findings and its result. */
async function reread(id) {
	const job = unwrap(await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
	put(job);
	return job;
}
var following = /* @__PURE__ */ new Set();
function follow(job) {
	put(job);
	if (following.has(job.id)) return;
	following.add(job.id);
	listen(job.id).finally(() => following.delete(job.id));
}
/** Follow one job to its end. Only what runs has a stream: a browser opens few connections to one server. */
async function listen(id) {
	let last = "";
	for (let tries = 0;;) try {
		let job = await reread(id);
		tries = 0;
		if (hasEnded(job)) break;
		if (job.status === "queued") {
			await pause(WAITING_MS);
			continue;
		}
		const headers = last ? { "last-event-id": last } : {};
		for await (const event of events(`/v1/jobs/${id}/events`, {
			headers,
			signal: new AbortController().signal
		})) {
			last = event.id ?? last;
			if (stale(event.name)) job = await reread(id);
			if (hasEnded(job)) break;
		}
	} catch (error) {
		if (!(error instanceof ApiError) || error.status === 404) return;
		await pause(Math.min(500 * 2 ** tries++, 1e4));
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
/** Whether an event is worth another look at its job: old events arrive by the hundred, all at once. */
function stale(event) {
	const now = performance.now();
	if (event === "progress" && now - readAt < 200) return false;
	readAt = now;
	return true;
}
function pause(ms) {
	return new Promise((resolve) => setTimeout(resolve, ms));
}
function put(job) {
	jobs.value = [job, ...jobs.value.filter((each) => each.id !== job.id)].sort((a, b) => b.created - a.created);
}
/** Return the findings of one kind. */
function findingsOf(job, kind) {
	return (job.findings ?? []).filter((each) => each.kind === kind);
}
function isNames(value) {
	return Array.isArray(value) && value.every((each) => typeof each === "string");
}
// src/state/open.ts
/** Vector of which *Where it breaks* is shown; null while it is closed. */
var breaksOf = y$1(null);
/** Whether *Use in my app* is shown. */
var codeOpen = y$1(false);
var keysOpen = y$1(false);
function openCode() {
	codeOpen.value = true;
}
function openCard(name) {
	location.hash = `library/${encodeURIComponent(name)}`;
}
// src/state/talk.ts
var COLUMNS = [
	"plain",
	"steered",
	"opposite",
	"prompt"
];
var turns = kept("turns", [], isTurns);
kept("columns", ["plain", "steered"], isColumns);
kept("sampling", {
	maxTokens: 64,
	temperature: 0,
	seed: 0
}, isSampling);
kept("system", "You are extremely happy.", isString);
kept("colour", "happy", isString);
var running = y$1([]);
O(() => running.value.length > 0);
function isString(value) {
	return typeof value === "string";
}
function isColumns(value) {
	return Array.isArray(value) && value.every((column) => COLUMNS.includes(column));
}
function isSampling(value) {
	const given = value;
	return typeof given?.maxTokens === "number" && typeof given.temperature === "number" && typeof given.seed === "number";
}
function isTurns(value) {
	return Array.isArray(value) && value.every((turn) => typeof turn?.user === "string" && typeof turn.answers === "object");
}
// src/parts/dialog.tsx
/** A native modal dialog, open as long as it is rendered. Escape, its button and a click outside close it; the focus
* returns to what had it. */
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
	return /* @__PURE__ */ a("dialog", {
		ref: dialog,
		class: wide ? "wide" : "",
		"aria-labelledby": heading,
		onClose,
		onClick: (event) => {
			if (event.target === event.currentTarget) onClose();
		},
		children: [/* @__PURE__ */ a("header", { children: [/* @__PURE__ */ a("h2", {
			id: heading,
			children: title
		}), /* @__PURE__ */ a("button", {
			type: "button",
			onClick: onClose,
			children: "Close"
		})] }), /* @__PURE__ */ a("div", {
			class: "body",
			children
		})]
	});
}
// src/parts/notice.tsx
/** What went wrong and what to do about it, with buttons if there are any. */
function Problem({ error, children }) {
	const { what, fix } = asProblem(error);
	return /* @__PURE__ */ a("div", {
		class: "notice bad",
		role: "alert",
		children: [/* @__PURE__ */ a("p", { children: [
			/* @__PURE__ */ a("strong", { children: sentence(what) }),
			" ",
			fix && sentence(fix)
		] }), children && /* @__PURE__ */ a("p", {
			class: "row",
			children
		})]
	});
}
function asProblem(error) {
	if (error instanceof ApiError) return error;
	if (typeof error === "object" && error && "what" in error) return error;
	return {
		what: error instanceof Error ? error.message : String(error),
		fix: null
	};
}
/** Return the server's words as a sentence. */
function sentence(words) {
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
/** The sweep that is shown, of this session. */
var sweep = y$1(null);
function Breaks() {
	const name = breaksOf.value;
	return name === null ? null : /* @__PURE__ */ a(Opened$1, { name }, name);
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
	return /* @__PURE__ */ a(Dialog, {
		title: `Where ${name} breaks`,
		wide: true,
		onClose: () => breaksOf.value = null,
		children: /* @__PURE__ */ a("div", {
			class: "stack",
			children: [
				/* @__PURE__ */ a("form", {
					class: "stack tight",
					onSubmit: (event) => {
						event.preventDefault();
						run();
					},
					children: [/* @__PURE__ */ a("label", {
						class: "field",
						children: [/* @__PURE__ */ a("span", {
							class: "label",
							children: "Message"
						}), /* @__PURE__ */ a("textarea", {
							rows: 2,
							value: prompt,
							maxLength: 2e4,
							required: true,
							onInput: (event) => setPrompt(event.currentTarget.value)
						})]
					}), /* @__PURE__ */ a("div", {
						class: "row",
						children: [
							/* @__PURE__ */ a("button", {
								class: "go",
								disabled: running || !prompt.trim(),
								children: [
									"Answer at ",
									STRENGTHS.length,
									" strengths"
								]
							}),
							running && /* @__PURE__ */ a("button", {
								type: "button",
								onClick: () => job && void halt(job.id),
								children: "Stop"
							}),
							/* @__PURE__ */ a("span", {
								class: "hint",
								children: safe ? `Card: safe from ${signed(safe.low)} to ${signed(safe.high)}` : "No safe range was measured"
							})
						]
					})]
				}),
				error !== null && /* @__PURE__ */ a(Problem, { error }),
				job?.error && /* @__PURE__ */ a(Problem, { error: job.error }),
				running && /* @__PURE__ */ a("progress", {
					"aria-label": "Strengths answered",
					max: STRENGTHS.length,
					value: rows.length
				}),
				rows.length > 0 && /* @__PURE__ */ a(Rows, {
					name,
					rows,
					safe,
					waiting: running
				}),
				done && /* @__PURE__ */ a("p", { children: [
					/* @__PURE__ */ a("strong", { children: verdict(usableRange(rows)) }),
					" ",
					narrowed.value[name] && "The zone on the dial is narrowed to this for now."
				] }),
				rows.length > 1 && /* @__PURE__ */ a(Charts, {
					rows,
					safe
				})
			]
		})
	});
}
function Rows({ name, rows, safe, waiting }) {
	const suggested = waiting ? null : suggestion(rows, safe);
	return /* @__PURE__ */ a("ol", {
		class: "strength-rows",
		"aria-label": "Answers by strength",
		children: rows.map((row) => /* @__PURE__ */ a("li", {
			class: row.usable ? "" : "unusable",
			children: [
				/* @__PURE__ */ a("p", {
					class: "head",
					children: [
						/* @__PURE__ */ a("strong", {
							class: "number",
							children: signed(row.strength)
						}),
						row.usable ? /* @__PURE__ */ a("span", { children: "ok" }) : /* @__PURE__ */ a("span", {
							class: "warn",
							children: ["▲ ", row.loops ? "repeats itself" : "no answer"]
						}),
						/* @__PURE__ */ a("span", {
							class: "soft small",
							children: [
								row.kl === null ? "" : `${figure(row.kl, 2)} nat`,
								" · ",
								Math.round(100 * row.distinct),
								" % distinct"
							]
						}),
						row.strength === suggested && /* @__PURE__ */ a("span", {
							class: "tag",
							children: "suggested"
						})
					]
				}),
				/* @__PURE__ */ a("p", {
					class: "said",
					children: row.text.trim() || "(no answer)"
				}),
				/* @__PURE__ */ a("button", {
					type: "button",
					onClick: () => setDial(name, row.strength),
					children: ["Set the dial to ", signed(row.strength)]
				})
			]
		}, row.strength))
	});
}
function Charts({ rows, safe }) {
	const spent = rows.filter((row) => row.kl !== null);
	return /* @__PURE__ */ a("section", {
		class: "stack tight",
		"aria-label": "Measures by strength",
		children: [
			/* @__PURE__ */ a("div", {
				class: "pair",
				children: [/* @__PURE__ */ a(LineChart, {
					title: "KL, nat per token",
					summary: `KL by strength: ${spent.map((row) => `${signed(row.strength)}: ${figure(row.kl ?? 0, 2)}`).join(", ")}`,
					points: spent.map((row) => ({
						x: row.strength,
						y: row.kl ?? 0,
						broken: !row.usable
					})),
					zone: safe,
					from: 0
				}), /* @__PURE__ */ a(LineChart, {
					title: "Distinct three-word groups, %",
					summary: `Distinct three-word groups by strength: ${rows.map((row) => `${signed(row.strength)}: ${Math.round(100 * row.distinct)} %`).join(", ")}`,
					points: rows.map((row) => ({
						x: row.strength,
						y: 100 * row.distinct,
						broken: !row.usable
					})),
					zone: safe,
					mark: {
						at: 75,
						label: "repeats below 75 %"
					}
				})]
			}),
			/* @__PURE__ */ a("p", {
				class: "hint",
				children: "▲ marks strengths whose answer is not usable. The shaded part is the card's safe range."
			}),
			/* @__PURE__ */ a(Numbers, {
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
			})
		]
	});
}
function setDial(name, strength) {
	if (!dials.value.some((dial) => dial.name === name)) add(name);
	turn(name, {
		strength,
		on: true
	});
	breaksOf.value = null;
	location.hash = "try";
	announce(`${name} is set to ${signed(strength)}`);
}
/** Return the ends of the strengths around 0 whose answers are all usable; null if that at 0 is not. */
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
/** Narrow the zone that the dial draws in this session, where a strength inside the card's range has broken. */
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
/** Return the strongest strength that is usable here and safe by the card. */
function suggestion(rows, safe) {
	const usable = usableRange(rows);
	if (!usable) return null;
	const within = rows.map((row) => row.strength).filter((strength) => strength > 0 && strength <= Math.min(usable.high, safe?.high ?? 1e400));
	return within.length ? Math.max(...within) : null;
}
// src/state/keys.ts
/** Keys of the place that is shown. */
var placeKeys = y$1([]);
/** Whether single letters are shortcuts: they get in the way of some speech input. */
var lettersOn = kept("letters", true, (value) => typeof value === "boolean");
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
/** The list of keys. */
function Keys() {
	if (!keysOpen.value) return null;
	return /* @__PURE__ */ a(Dialog, {
		title: "Keys",
		onClose: () => keysOpen.value = false,
		children: /* @__PURE__ */ a("div", {
			class: "stack",
			children: [/* @__PURE__ */ a("table", {
				class: "data",
				children: [/* @__PURE__ */ a("thead", { children: /* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("th", {
					scope: "col",
					children: "Key"
				}), /* @__PURE__ */ a("th", {
					scope: "col",
					children: "Does"
				})] }) }), /* @__PURE__ */ a("tbody", { children: [
					shortcuts().map(({ key, does }) => /* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("td", { children: /* @__PURE__ */ a("kbd", { children: NAMES[key] ?? key.toUpperCase() }) }), /* @__PURE__ */ a("td", { children: does })] }, key)),
					/* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("td", { children: [
						/* @__PURE__ */ a("kbd", { children: "Ctrl" }),
						" or ",
						/* @__PURE__ */ a("kbd", { children: "⌘" }),
						" with ",
						/* @__PURE__ */ a("kbd", { children: "Enter" })
					] }), /* @__PURE__ */ a("td", { children: "Send the message" })] }),
					/* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("td", { children: [
						/* @__PURE__ */ a("kbd", { children: "←" }),
						" ",
						/* @__PURE__ */ a("kbd", { children: "→" }),
						", ",
						/* @__PURE__ */ a("kbd", { children: "Page Up" }),
						" ",
						/* @__PURE__ */ a("kbd", { children: "Page Down" })
					] }), /* @__PURE__ */ a("td", { children: "Turn a dial by 0.05, by 0.25" })] }),
					/* @__PURE__ */ a("tr", { children: [/* @__PURE__ */ a("td", { children: [
						/* @__PURE__ */ a("kbd", { children: "Home" }),
						" ",
						/* @__PURE__ */ a("kbd", { children: "End" }),
						", ",
						/* @__PURE__ */ a("kbd", { children: "0" })
					] }), /* @__PURE__ */ a("td", { children: "Turn a dial to the ends of its safe range, to 0" })] })
				] })]
			}), /* @__PURE__ */ a("label", {
				class: "check",
				children: [/* @__PURE__ */ a("input", {
					type: "checkbox",
					checked: lettersOn.value,
					onChange: (event) => lettersOn.value = event.currentTarget.checked
				}), "Single letters are shortcuts"]
			})]
		})
	});
}
// src/state/presets.ts
var presets = y$1([]);
async function findPresets() {
	presets.value = unwrap(await api.GET("/v1/presets")).data;
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
  "max_tokens": 40
}`;
	return `# In the settings of the application:
#   base URL  ${address}/v1
#   API key   none
#   model     ${model}:${preset}
curl -s ${shell(`${address}/v1/chat/completions`)} -H 'content-type: application/json' -d ${shell(body)}`;
}
/** Return a string literal that JSON, Python and JavaScript read alike. */
function quoted(text) {
	return JSON.stringify(text);
}
/** Return a word of a POSIX shell. */
function shell(text) {
	return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
// src/parts/use.tsx
var tab = y$1("curl");
function UseInApp() {
	return codeOpen.value ? /* @__PURE__ */ a(Opened, {}) : null;
}
function Opened() {
	A$1(() => void findPresets().catch(() => void 0), []);
	const saved = presets.value.find((each) => each.preset?.["steering"] === text.value && Object.keys(each.preset).length === 1);
	const all = snippets({
		address: location.origin,
		model: info.value?.model.served_as ?? "smollm2",
		steering: text.value,
		preset: saved?.name ?? null
	});
	const shown = all.find((each) => each.id === tab.value) ?? all[0];
	return /* @__PURE__ */ a(Dialog, {
		title: "Use in my app",
		wide: true,
		onClose: () => codeOpen.value = false,
		children: /* @__PURE__ */ a("div", {
			class: "stack",
			children: [
				/* @__PURE__ */ a("p", { children: text.value === "none" ? "No dial is on, so this code steers nothing." : /* @__PURE__ */ a($, { children: [
					"The code steers with ",
					/* @__PURE__ */ a("code", { children: text.value }),
					", as the dials are now."
				] }) }),
				/* @__PURE__ */ a("div", {
					role: "tablist",
					"aria-label": "Client",
					onKeyDown: (event) => moveTab(event, all),
					children: all.map((each) => /* @__PURE__ */ a("button", {
						type: "button",
						role: "tab",
						id: `tab-${each.id}`,
						"aria-selected": each === shown,
						"aria-controls": "snippet",
						tabIndex: each === shown ? 0 : -1,
						onClick: () => tab.value = each.id,
						children: each.title
					}, each.id))
				}),
				/* @__PURE__ */ a("div", {
					role: "tabpanel",
					id: "snippet",
					"aria-labelledby": `tab-${shown.id}`,
					class: "stack",
					children: [/* @__PURE__ */ a("p", {
						class: "hint",
						children: shown.note
					}), shown.code === null ? /* @__PURE__ */ a(SavePreset, {}) : /* @__PURE__ */ a(Code, {
						code: shown.code,
						title: shown.title
					}, shown.id)]
				})
			]
		})
	});
}
/** Arrows, Home and End choose a tab, as in every list of tabs. */
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
	return /* @__PURE__ */ a($, { children: [/* @__PURE__ */ a("pre", {
		tabIndex: 0,
		"aria-label": `Code for ${title}`,
		children: /* @__PURE__ */ a("code", { children: code })
	}), /* @__PURE__ */ a("p", {
		class: "row",
		children: [
			/* @__PURE__ */ a("button", {
				type: "button",
				class: "go",
				onClick: () => void copy(),
				children: "Copy"
			}),
			copied === "copied" && /* @__PURE__ */ a("span", { children: "Copied" }),
			copied === "failed" && /* @__PURE__ */ a("span", {
				class: "warn",
				children: "▲ The browser does not allow it. Select the text and copy it."
			})
		]
	})] });
}
/** The form that saves the dials as a preset, whose name is then a model's. */
function SavePreset({ onSaved }) {
	const [name, setName] = d$2("");
	const [error, setError] = d$2(null);
	const taken = presets.value.some((each) => each.name === name);
	const save = async () => {
		setError(null);
		try {
			unwrap(await api.PUT("/v1/presets/{name}", {
				params: { path: { name } },
				body: { steering: text.value }
			}));
			await findPresets();
			announce(`The preset ${name} is saved`);
			onSaved?.(name);
		} catch (problem) {
			setError(problem);
		}
	};
	return /* @__PURE__ */ a("form", {
		class: "stack tight",
		onSubmit: (event) => {
			event.preventDefault();
			save();
		},
		children: [
			/* @__PURE__ */ a("p", { children: "Save the dials as a preset. Its name is then a model's name." }),
			/* @__PURE__ */ a("div", {
				class: "row",
				children: [
					/* @__PURE__ */ a("label", {
						class: "row",
						children: [/* @__PURE__ */ a("span", {
							class: "label",
							children: "Name"
						}), /* @__PURE__ */ a("input", {
							value: name,
							required: true,
							pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}",
							title: "Letters, digits, '.', '_' and '-'",
							autocomplete: "off",
							onInput: (event) => setName(event.currentTarget.value)
						})]
					}),
					/* @__PURE__ */ a("button", {
						class: "go",
						disabled: !name || taken,
						children: "Save"
					}),
					taken && /* @__PURE__ */ a("span", {
						class: "warn",
						children: "▲ There is a preset of this name"
					})
				]
			}),
			error !== null && /* @__PURE__ */ a(Problem, { error })
		]
	});
}
// src/places/library.tsx
function Library() {
	return /* @__PURE__ */ a("main", {
		id: "main",
		tabIndex: -1,
		children: /* @__PURE__ */ a("h1", { children: "Library" })
	});
}
// src/state/library.ts
/** The vector that was deleted last, and what restores it. */
var deleted = y$1(null);
async function deleteVector(name) {
	const { undo } = unwrap(await api.DELETE("/v1/vectors/{name}", { params: { path: { name } } }));
	deleted.value = {
		name,
		undo
	};
	announce(`${name} is deleted`);
	await refresh();
}
async function restoreVector() {
	if (!deleted.value) return;
	const { name, undo } = deleted.value;
	unwrap(await api.POST("/v1/vectors/{name}/restore", {
		params: { path: { name } },
		body: { undo }
	}));
	deleted.value = null;
	announce(`${name} is restored`);
	await refresh();
}
async function detailsOf(name) {
	return unwrap(await api.GET("/v1/vectors/{name}", { params: { path: { name } } }));
}
// src/parts/verdict.ts
/** Return an interval for people. */
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
function Made({ job }) {
	const [details, setDetails] = d$2(null);
	const [error, setError] = d$2(null);
	const name = job.result && "vector" in job.result && !("strengths" in job.result) ? job.result.vector : null;
	const there = name !== null && vectorOf.value.has(name);
	A$1(() => {
		if (name !== null && there) detailsOf(name).then(setDetails, setError);
	}, [name, there]);
	if (name === null) return null;
	if (!there) return /* @__PURE__ */ a(Gone, {
		job,
		name
	});
	const { word, sentences } = details ? verdictOf(details) : {
		word: "",
		sentences: []
	};
	return /* @__PURE__ */ a("div", {
		class: "stack",
		children: [
			details && /* @__PURE__ */ a("div", {
				class: "stack tight",
				children: [/* @__PURE__ */ a("p", { children: /* @__PURE__ */ a("strong", { children: word }) }), sentences.map((each) => /* @__PURE__ */ a("p", { children: each }, each))]
			}),
			details && /* @__PURE__ */ a(Samples, {
				job,
				details
			}),
			error !== null && /* @__PURE__ */ a(Problem, { error }),
			/* @__PURE__ */ a("div", {
				class: "row",
				children: [
					/* @__PURE__ */ a("button", {
						type: "button",
						class: "go",
						onClick: () => {
							add(name);
							location.hash = "try";
						},
						children: "Try it"
					}),
					/* @__PURE__ */ a("button", {
						type: "button",
						onClick: () => dismiss(job.id),
						children: "Keep"
					}),
					/* @__PURE__ */ a("button", {
						type: "button",
						onClick: () => openCard(name),
						children: "Card"
					}),
					/* @__PURE__ */ a("button", {
						type: "button",
						class: "danger",
						onClick: () => deleteVector(name).then(() => dismiss(job.id), setError),
						children: "Discard"
					})
				]
			})
		]
	});
}
function Gone({ job, name }) {
	return /* @__PURE__ */ a("p", {
		class: "row",
		children: [/* @__PURE__ */ a("span", { children: [
			"The vector ",
			name,
			" is no longer there."
		] }), /* @__PURE__ */ a("button", {
			type: "button",
			onClick: () => dismiss(job.id),
			children: "Dismiss"
		})]
	});
}
/** One question at both default strengths and without steering, answered once for each vector. */
function Samples({ job, details }) {
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
	if (error !== null) return /* @__PURE__ */ a(Problem, { error });
	const rows = sweep ? findingsOf(sweep, "strength") : [];
	if (!rows.length) return /* @__PURE__ */ a("p", {
		class: "soft",
		role: "status",
		children: [
			"Answering “",
			QUESTION,
			"” both ways…"
		]
	});
	return /* @__PURE__ */ a("section", {
		class: "stack tight",
		"aria-label": "Samples",
		children: [/* @__PURE__ */ a("p", {
			class: "small",
			children: [
				"“",
				QUESTION,
				"”"
			]
		}), /* @__PURE__ */ a("div", {
			class: "samples",
			children: rows.map((row) => /* @__PURE__ */ a("div", {
				class: "stack tight",
				children: [/* @__PURE__ */ a("p", {
					class: "small",
					children: [
						/* @__PURE__ */ a("strong", { children: row.strength ? signed(row.strength) : "as it is" }),
						" ",
						!row.usable && /* @__PURE__ */ a("span", {
							class: "warn",
							children: ["▲ ", row.loops ? "repeats itself" : "no answer"]
						})
					]
				}), /* @__PURE__ */ a("blockquote", {
					class: row.strength > 0 ? "plus" : row.strength < 0 ? "minus" : "",
					children: row.text.trim() || "(no answer)"
				})]
			}, row.strength))
		})]
	});
}
function strengthsOf({ default_strength, safe, header }) {
	if (header.distillation) return [0, default_strength ?? 1];
	const low = safe ? Math.max(-.5, safe.low) : -.5;
	const high = safe ? Math.min(.5, safe.high) : .5;
	return [.../* @__PURE__ */ new Set([
		low || -.25,
		0,
		high || .25
	])];
}
// src/parts/job-panel.tsx
var WORDS$1 = {
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
	return /* @__PURE__ */ a("article", {
		class: "card job stack",
		"aria-label": `${nameOf(job)} ${WORDS$1[job.status]}`,
		children: [
			/* @__PURE__ */ a("div", {
				class: "row",
				children: [
					/* @__PURE__ */ a("h2", {
						class: "grow",
						children: [
							nameOf(job),
							" ",
							/* @__PURE__ */ a("span", {
								class: "soft",
								children: WORDS$1[job.status]
							})
						]
					}),
					!hasEnded(job) && /* @__PURE__ */ a(TimeLeft, { job }),
					!hasEnded(job) && /* @__PURE__ */ a("button", {
						type: "button",
						onClick: () => act(halt(job.id)),
						children: "Stop: what was found is kept"
					}),
					(job.status === "stopped" || job.status === "failed") && /* @__PURE__ */ a($, { children: [/* @__PURE__ */ a("button", {
						type: "button",
						class: "go",
						onClick: () => act(resume(job.id)),
						children: job.status === "failed" ? "Try again" : "Go on"
					}), /* @__PURE__ */ a("button", {
						type: "button",
						onClick: () => dismiss(job.id),
						children: "Dismiss"
					})] })
				]
			}),
			error !== null && /* @__PURE__ */ a(Problem, { error }),
			job.error && /* @__PURE__ */ a(Problem, { error: job.error }),
			job.status === "done" ? /* @__PURE__ */ a(Made, { job }) : /* @__PURE__ */ a("div", {
				class: "columns",
				children: [/* @__PURE__ */ a(Phases, { job }), /* @__PURE__ */ a(Findings, { job })]
			}),
			job.status === "done" && /* @__PURE__ */ a("details", { children: [/* @__PURE__ */ a("summary", { children: "How it was made" }), /* @__PURE__ */ a("div", {
				class: "columns",
				children: [/* @__PURE__ */ a(Phases, { job }), /* @__PURE__ */ a(Findings, { job })]
			})] })
		]
	});
}
/** The time left, counted down between two words of the server. It is an estimate, and is said to be one. */
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
	return /* @__PURE__ */ a("span", {
		class: "soft",
		children: job.status === "queued" ? `then about ${duration(left)}` : `about ${duration(left)} left`
	});
}
function Phases({ job }) {
	const done = /* @__PURE__ */ new Map();
	for (const { phase, seconds } of job.phases) done.set(phase, Math.max(seconds, done.get(phase) ?? 0));
	const now = hasEnded(job) ? null : job.progress;
	if (now) done.delete(now.phase);
	const expected = job.expected ?? {};
	const later = job.status === "done" ? [] : Object.keys(expected).filter((phase) => !done.has(phase) && phase !== now?.phase);
	return /* @__PURE__ */ a("ol", {
		class: "phases",
		"aria-label": "Phases",
		children: [
			[...done].map(([phase, seconds]) => /* @__PURE__ */ a("li", { children: [
				/* @__PURE__ */ a("span", {
					"aria-label": "done",
					children: "✓"
				}),
				/* @__PURE__ */ a("span", { children: phase }),
				/* @__PURE__ */ a("span", {
					class: "soft number",
					children: [seconds < 10 ? seconds.toFixed(1) : Math.round(seconds), " s"]
				})
			] }, phase)),
			now && job.status === "running" && /* @__PURE__ */ a("li", {
				"aria-current": "step",
				children: [
					/* @__PURE__ */ a("span", {
						"aria-label": "now",
						children: "▶"
					}),
					/* @__PURE__ */ a("strong", { children: now.phase }),
					/* @__PURE__ */ a("span", {
						class: "soft number",
						children: [now.total > 1 ? `${now.done} of ${now.total}` : "", now.status && ` · ${now.status}`]
					}),
					now.total > 1 ? /* @__PURE__ */ a("progress", {
						"aria-label": now.phase,
						max: now.total,
						value: now.done
					}) : /* @__PURE__ */ a("progress", { "aria-label": now.phase }),
					now.note && /* @__PURE__ */ a("span", {
						class: "soft small",
						children: now.note
					})
				]
			}, now.phase),
			later.map((phase) => /* @__PURE__ */ a("li", {
				class: "later",
				children: [/* @__PURE__ */ a("span", {
					"aria-label": "later",
					children: "·"
				}), /* @__PURE__ */ a("span", { children: phase })]
			}, phase))
		]
	});
}
function Findings({ job }) {
	const agreement = findingsOf(job, "agreement").at(-1);
	const answers = findingsOf(job, "answers");
	const layers = findingsOf(job, "layers").at(-1);
	const unlike = [...new Map(answers.map((each) => [each.question, each])).values()].slice(0, 2);
	if (!agreement && !unlike.length && !layers) return null;
	return /* @__PURE__ */ a("div", {
		class: "stack",
		"aria-label": "Found so far",
		role: "group",
		children: [
			agreement && /* @__PURE__ */ a("p", { children: [
				agreement.pairs,
				" pairs agree with cosine ",
				agreement.cosine.toFixed(2),
				"; along their direction",
				" ",
				Math.round(100 * agreement.separation),
				" % lie the right way round."
			] }),
			unlike.map((each) => /* @__PURE__ */ a("div", {
				class: "stack tight",
				children: [/* @__PURE__ */ a("p", {
					class: "small",
					children: [
						"Asked to be either, the model answers “",
						each.question,
						"” with"
					]
				}), /* @__PURE__ */ a("div", {
					class: "both",
					children: [/* @__PURE__ */ a("blockquote", {
						class: "plus",
						children: ["+ ", each.positive]
					}), /* @__PURE__ */ a("blockquote", {
						class: "minus",
						children: ["− ", each.negative]
					})]
				})]
			}, each.question)),
			layers && /* @__PURE__ */ a(Layers, {
				shares: layers.shares,
				tried: layers.tried
			})
		]
	});
}
function Layers({ shares, tried }) {
	const layers = Object.entries(shares).map(([layer, share]) => [Number(layer), share]).sort(([a], [b]) => a - b);
	const most = layers.reduce((best, each) => each[1] > best[1] ? each : best, layers[0] ?? [0, 0]);
	return /* @__PURE__ */ a("div", {
		class: "stack tight",
		children: [/* @__PURE__ */ a("p", { children: `It steers layers ${layers[0]?.[0]} to ${layers.at(-1)?.[0]}, layer ${most[0]} the most${tried ? `; ${tried} choices of layers were compared` : ""}.` }), /* @__PURE__ */ a("div", {
			class: "layers",
			role: "img",
			"aria-label": `Share of each layer: ${layers.map(([layer, share]) => `${layer}: ${Math.round(100 * share)} %`).join(", ")}`,
			children: layers.map(([layer, share]) => /* @__PURE__ */ a("span", {
				style: { height: `${Math.max(100 * share, 2)}%` },
				title: `layer ${layer}: ${Math.round(100 * share)} %`
			}, layer))
		})]
	});
}
// src/state/behaviour-file.ts
/** Return the text of a behaviour from a file: TOML, JSON, or pairs as JSON or JSONL.
* Throws an Error that says what is wrong with it. */
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
// src/state/make.ts
var EFFORTS = [
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
/** A file of the user: its name, and its text as a behaviour. Files are read again after a reload. */
var file = y$1(null);
function set(change) {
	form.value = {
		...form.value,
		...change
	};
}
var filled = (poles) => poles.map((pole) => pole.trim()).filter(Boolean);
/** Name of the vector: what was typed, else made from what it is about. */
var name = O(() => {
	const { source, name: typed, positive, prompt } = form.value;
	if (typed.trim()) return typed.trim();
	if (source === "file") return draft.value?.name ?? "";
	return slug(source === "poles" ? filled(positive)[0] ?? "" : prompt);
});
/** Return a name from the first words of a text. */
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
/** The behaviour as the server reads it; null while there is nothing to read. */
var draft = y$1(null);
/** Why there is no draft yet. */
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
/** Return the behaviour to train, under the name that its vector gets. */
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
/** Return about how long a job takes on this server, in seconds. */
function expected(kind) {
	return info.value?.expected_seconds[kind] ?? null;
}
function isForm(value) {
	const given = value;
	return typeof given?.name === "string" && [
		"poles",
		"file",
		"prompt"
	].includes(given.source) && EFFORTS.includes(given.effort) && typeof given.prompt === "string" && [given.positive, given.negative].every((side) => Array.isArray(side) && side.every((way) => typeof way === "string"));
}
// src/parts/hints.tsx
var WORDS = {
	error: "Mistake",
	warning: "Better",
	note: "Note"
};
/** What may be wrong with the words of a behaviour: hints, of which only mistakes keep it from being trained. */
function Hints() {
	return /* @__PURE__ */ a("ul", {
		class: "hints",
		"aria-label": "Hints",
		"aria-live": "polite",
		children: (draft.value?.findings ?? []).map((finding, n) => /* @__PURE__ */ a("li", { children: [
			/* @__PURE__ */ a("span", {
				class: finding.level === "note" ? "soft" : "warn",
				children: [
					finding.level === "note" ? "·" : "▲",
					" ",
					WORDS[finding.level]
				]
			}),
			" ",
			place$1(finding.where),
			": ",
			finding.problem,
			". ",
			finding.fix && /* @__PURE__ */ a("span", {
				class: "soft",
				children: [capital(finding.fix), "."]
			})
		] }, n))
	});
}
/** Return the place of a finding as it is on the page. */
function place$1(where) {
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
	return /* @__PURE__ */ a("form", {
		class: "stack",
		"aria-label": "A new vector",
		onSubmit: (event) => {
			event.preventDefault();
			start();
		},
		children: [
			/* @__PURE__ */ a("fieldset", {
				class: "stack tight",
				children: [/* @__PURE__ */ a("legend", { children: "Where from" }), /* @__PURE__ */ a("div", {
					class: "row",
					children: Object.keys(SOURCES).map((each) => /* @__PURE__ */ a("label", {
						class: "check",
						children: [/* @__PURE__ */ a("input", {
							type: "radio",
							name: "source",
							checked: source === each,
							onChange: () => set({ source: each })
						}), SOURCES[each]]
					}, each))
				})]
			}),
			source === "poles" && /* @__PURE__ */ a(Poles, {}),
			source === "file" && /* @__PURE__ */ a(FromFile, {}),
			source === "prompt" && /* @__PURE__ */ a(Prompt, { blocked: able?.gradients === false }),
			/* @__PURE__ */ a("label", {
				class: "field",
				children: [
					/* @__PURE__ */ a("span", {
						class: "label",
						children: "Name"
					}),
					/* @__PURE__ */ a("input", {
						value: form.value.name,
						placeholder: name.value,
						maxLength: 64,
						pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
						title: "Letters, digits, '.', '_' and '-'",
						autocomplete: "off",
						onInput: (event) => set({ name: event.currentTarget.value })
					}),
					taken && /* @__PURE__ */ a("span", {
						class: "warn",
						children: [
							"▲ You have a vector ",
							name.value,
							". Choose another name."
						]
					})
				]
			}),
			source !== "prompt" && /* @__PURE__ */ a("fieldset", {
				class: "stack tight",
				children: [/* @__PURE__ */ a("legend", { children: "Effort" }), EFFORTS.map((each) => /* @__PURE__ */ a("label", {
					class: "check",
					children: [/* @__PURE__ */ a("input", {
						type: "radio",
						name: "effort",
						checked: effort === each,
						onChange: () => set({ effort: each })
					}), /* @__PURE__ */ a("span", { children: [
						ABOUT[each],
						" ",
						/* @__PURE__ */ a(Time, { seconds: expected(`train ${each}`) })
					] })]
				}, each))]
			}),
			error !== null && /* @__PURE__ */ a(Problem, { error }),
			draftProblem.value && source !== "prompt" && /* @__PURE__ */ a(Problem, { error: draftProblem.value }),
			/* @__PURE__ */ a("p", { children: /* @__PURE__ */ a("button", {
				class: "go",
				disabled: !ready || taken || beginning,
				children: [source === "prompt" ? "Compile" : "Train", seconds !== null && `: about ${duration(seconds)} on this machine`]
			}) })
		]
	});
}
function Time({ seconds }) {
	return seconds === null ? null : /* @__PURE__ */ a("span", {
		class: "soft",
		children: [
			"(about ",
			duration(seconds),
			")"
		]
	});
}
function Poles() {
	return /* @__PURE__ */ a($, { children: [
		/* @__PURE__ */ a(Pole, {
			side: "positive",
			sign: "+",
			title: "Towards"
		}),
		/* @__PURE__ */ a(Pole, {
			side: "negative",
			sign: "−",
			title: "Against"
		}),
		/* @__PURE__ */ a("p", {
			class: "hint",
			children: "Several ways of saying a pole make a better vector. Give both poles as many, line by line alike but for the point."
		}),
		/* @__PURE__ */ a(Hints, {})
	] });
}
function Pole({ side, sign, title }) {
	const ways = form.value[side];
	const change = (next) => set({ [side]: next });
	return /* @__PURE__ */ a("fieldset", {
		class: `pole stack tight ${side === "negative" ? "against" : ""}`,
		children: [
			/* @__PURE__ */ a("legend", { children: [
				title,
				" (",
				sign,
				")"
			] }),
			ways.map((way, n) => /* @__PURE__ */ a("div", {
				class: "way",
				children: [
					/* @__PURE__ */ a("label", {
						for: `${side}-${n}`,
						children: ["You are", /* @__PURE__ */ a("span", {
							class: "vh",
							children: [
								", ",
								title.toLowerCase(),
								", way ",
								n + 1
							]
						})]
					}),
					/* @__PURE__ */ a("input", {
						id: `${side}-${n}`,
						value: way,
						placeholder: n === 0 ? EXAMPLES[side] : "another way to say it",
						maxLength: 1e3,
						autocomplete: "off",
						onInput: (event) => change(ways.map((old, at) => at === n ? event.currentTarget.value : old))
					}),
					ways.length > 1 && /* @__PURE__ */ a("button", {
						type: "button",
						class: "quiet icon",
						"aria-label": `Remove way ${n + 1}`,
						onClick: () => change(ways.filter((_, at) => at !== n)),
						children: "✕"
					})
				]
			}, n)),
			/* @__PURE__ */ a("p", { children: /* @__PURE__ */ a("button", {
				type: "button",
				class: "link",
				disabled: ways.length >= 16,
				onClick: () => {
					change([...ways, ""]);
					setTimeout(() => document.getElementById(`${side}-${ways.length}`)?.focus());
				},
				children: "Add another way to say it"
			}) })
		]
	});
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
	return /* @__PURE__ */ a($, { children: [
		/* @__PURE__ */ a("div", {
			class: "field",
			children: [
				/* @__PURE__ */ a("label", {
					for: "behaviour-file",
					children: "Behaviour or pairs"
				}),
				/* @__PURE__ */ a("input", {
					id: "behaviour-file",
					type: "file",
					accept: ".toml,.json,.jsonl",
					onChange: (event) => void take(event.currentTarget.files?.[0])
				}),
				/* @__PURE__ */ a("p", {
					class: "hint",
					children: "A behaviour as .toml or .json; or pairs as .jsonl or .json, each an object with \"positive\" and \"negative\". It is read in the browser and sent to your own server alone."
				})
			]
		}),
		file.value && /* @__PURE__ */ a("p", { children: [
			file.value.name,
			" is read",
			draft.value?.name ? /* @__PURE__ */ a($, { children: [" as the behaviour ", /* @__PURE__ */ a("strong", { children: draft.value.name })] }) : null,
			"."
		] }),
		problem !== null && /* @__PURE__ */ a(Problem, { error: problem }),
		/* @__PURE__ */ a(Hints, {})
	] });
}
function Prompt({ blocked }) {
	return /* @__PURE__ */ a("div", {
		class: "stack tight",
		children: [
			/* @__PURE__ */ a("label", {
				class: "field",
				children: [/* @__PURE__ */ a("span", {
					class: "label",
					children: "System prompt"
				}), /* @__PURE__ */ a("textarea", {
					rows: 5,
					value: form.value.prompt,
					placeholder: "Answer in one short sentence.",
					onInput: (event) => set({ prompt: event.currentTarget.value })
				})]
			}),
			/* @__PURE__ */ a("p", {
				class: "hint",
				children: "The vector then does what the prompt asks for, at strength 1, without its tokens in every request."
			}),
			blocked && /* @__PURE__ */ a("p", {
				class: "warn",
				children: "▲ This model has no gradients, so prompts cannot be compiled. Use two poles instead."
			})
		]
	});
}
// src/parts/pairs-preview.tsx
/** Some of the pairs as the model will read them, with what differs marked. */
function PairsPreview() {
	if (form.value.source === "prompt") return null;
	const preview = draft.value?.preview;
	return /* @__PURE__ */ a("section", {
		class: "stack tight",
		"aria-label": "What the model will read",
		children: [/* @__PURE__ */ a("h2", { children: "What the model will read" }), !preview ? /* @__PURE__ */ a("p", {
			class: "soft",
			children: "Pairs of texts that differ in the poles alone appear here as you write."
		}) : /* @__PURE__ */ a($, { children: [/* @__PURE__ */ a("p", {
			class: "soft",
			children: [
				preview.pairs.length,
				" of ",
				preview.total,
				" pairs. The model's hidden states at the end of each text are compared."
			]
		}), /* @__PURE__ */ a("ol", {
			class: "preview",
			children: preview.pairs.map((pair, n) => {
				const [plus, minus] = parted(pair.positive, pair.negative);
				return /* @__PURE__ */ a("li", {
					class: "stack tight",
					children: [/* @__PURE__ */ a(Text, {
						sign: "+",
						parts: plus
					}), /* @__PURE__ */ a(Text, {
						sign: "−",
						parts: minus
					})]
				}, n);
			})
		})] })]
	});
}
function Text({ sign, parts: [before, own, after] }) {
	return /* @__PURE__ */ a("pre", {
		class: sign === "+" ? "" : "against",
		tabIndex: 0,
		role: "group",
		"aria-label": sign === "+" ? "Towards" : "Against",
		children: [
			sign,
			" ",
			before,
			/* @__PURE__ */ a("mark", { children: own }),
			after
		]
	});
}
/** Return two texts in three parts each: what they begin with alike, what differs, what they end with alike. */
function parted(a, b) {
	const [as, bs] = [a.split(/(\s+)/), b.split(/(\s+)/)];
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
// src/parts/undo.tsx
/** What was deleted last, with the button that brings it back. */
function Undo() {
	const [error, setError] = d$2(null);
	if (!deleted.value) return null;
	return /* @__PURE__ */ a("div", {
		class: "stack tight",
		children: [/* @__PURE__ */ a("p", {
			class: "notice row",
			children: [
				/* @__PURE__ */ a("span", { children: [/* @__PURE__ */ a("strong", { children: deleted.value.name }), " is deleted."] }),
				/* @__PURE__ */ a("button", {
					type: "button",
					onClick: () => void restoreVector().catch(setError),
					children: "Undo"
				}),
				/* @__PURE__ */ a("button", {
					type: "button",
					class: "quiet",
					onClick: () => deleted.value = null,
					children: "Dismiss"
				})
			]
		}), error !== null && /* @__PURE__ */ a(Problem, { error })]
	});
}
// src/places/make.tsx
var SHOWN = 6;
function Make() {
	A$1(() => void findJobs().catch(() => void 0), []);
	const making = jobs.value.filter((job) => (job.kind === "train" || job.kind === "distill") && !dismissed.value.includes(job.id));
	return /* @__PURE__ */ a("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack",
		children: [
			/* @__PURE__ */ a("h1", { children: "Make" }),
			/* @__PURE__ */ a(Undo, {}),
			making.length > 0 && /* @__PURE__ */ a("section", {
				class: "stack",
				"aria-label": "Vectors being made",
				children: making.slice(0, SHOWN).map((job) => /* @__PURE__ */ a(JobPanel, { job }, job.id))
			}),
			/* @__PURE__ */ a("div", {
				class: "making",
				children: [/* @__PURE__ */ a(MakeForm, {}), /* @__PURE__ */ a(PairsPreview, {})]
			})
		]
	});
}
// src/places/try.tsx
function Try() {
	return /* @__PURE__ */ a("main", {
		id: "main",
		tabIndex: -1,
		children: /* @__PURE__ */ a("h1", { children: "Try" })
	});
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
	const name = hash.slice(1).split(/[/?]/)[0];
	return name in PLACES ? name : "try";
}
function App() {
	const { Page } = PLACES[place.value];
	return /* @__PURE__ */ a($, { children: [
		/* @__PURE__ */ a("a", {
			class: "skip",
			href: "#main",
			onClick: (event) => {
				event.preventDefault();
				document.getElementById("main")?.focus();
			},
			children: "Skip to the content"
		}),
		/* @__PURE__ */ a("header", {
			class: "top",
			children: [
				/* @__PURE__ */ a("span", {
					class: "brand",
					children: "trimtab"
				}),
				/* @__PURE__ */ a("nav", {
					"aria-label": "Places",
					children: Object.keys(PLACES).map((name) => /* @__PURE__ */ a("a", {
						href: `#${name}`,
						"aria-current": name === place.value ? "page" : void 0,
						children: PLACES[name].title
					}, name))
				}),
				/* @__PURE__ */ a("span", {
					class: "model",
					children: model()
				}),
				/* @__PURE__ */ a("button", {
					type: "button",
					class: "quiet icon",
					"aria-label": "Keys",
					title: "Keys",
					onClick: () => keysOpen.value = true,
					children: "?"
				})
			]
		}),
		offline.value && /* @__PURE__ */ a("div", {
			class: "banner",
			role: "alert",
			children: [/* @__PURE__ */ a("span", { children: "The server does not answer. Your text is kept." }), /* @__PURE__ */ a("button", {
				type: "button",
				onClick: () => void refresh(),
				children: "Try again"
			})]
		}),
		needsKey.value && /* @__PURE__ */ a(KeyField, {}),
		/* @__PURE__ */ a(Page, {}),
		/* @__PURE__ */ a(Breaks, {}),
		/* @__PURE__ */ a(UseInApp, {}),
		/* @__PURE__ */ a(Keys, {}),
		/* @__PURE__ */ a("p", {
			class: "vh",
			role: "status",
			"aria-live": "polite",
			children: announced.value
		})
	] });
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
	return /* @__PURE__ */ a("form", {
		class: "banner",
		onSubmit: (event) => {
			event.preventDefault();
			refresh();
		},
		children: [
			/* @__PURE__ */ a("label", {
				for: "key",
				children: "This server needs a key. It is kept until you close the page."
			}),
			/* @__PURE__ */ a("input", {
				id: "key",
				type: "password",
				autocomplete: "off",
				value: key.value,
				onInput: (event) => key.value = event.currentTarget.value
			}),
			/* @__PURE__ */ a("button", {
				class: "go",
				children: "Use it"
			})
		]
	});
}
// src/main.tsx
refresh();
findJobs().catch(() => void 0);
listenForKeys();
Q(/* @__PURE__ */ a(App, {}), document.getElementById("app"));
