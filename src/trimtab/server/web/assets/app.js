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
		GET(url, init) {
			return coreFetch(url, {
				...init,
				method: "GET"
			});
		},
		PUT(url, init) {
			return coreFetch(url, {
				...init,
				method: "PUT"
			});
		},
		POST(url, init) {
			return coreFetch(url, {
				...init,
				method: "POST"
			});
		},
		DELETE(url, init) {
			return coreFetch(url, {
				...init,
				method: "DELETE"
			});
		},
		OPTIONS(url, init) {
			return coreFetch(url, {
				...init,
				method: "OPTIONS"
			});
		},
		HEAD(url, init) {
			return coreFetch(url, {
				...init,
				method: "HEAD"
			});
		},
		PATCH(url, init) {
			return coreFetch(url, {
				...init,
				method: "PATCH"
			});
		},
		TRACE(url, init) {
			return coreFetch(url, {
				...init,
				method: "TRACE"
			});
		},
		use(...middleware) {
			for (const m of middleware) {
				if (!m) continue;
				if (typeof m !== "object" || !("onRequest" in m || "onResponse" in m || "onError" in m)) throw new Error("Middleware must be an object with one of `onRequest()`, `onResponse() or `onError()`");
				globalMiddlewares.push(m);
			}
		},
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
var api = createClient({
	baseUrl: location.origin,
	fetch: send
});
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
	const across = (x) => `${3 + .94 * percent$1(x, left, right)}%`;
	const up = (y) => `${100 - percent$1(y, low, high)}%`;
	return a("div", {
		class: "chart",
		role: "img",
		"aria-label": summary,
		children: [
			a("p", {
				class: "title",
				children: title
			}),
			a("div", {
				class: "scale",
				style: { height: `${height}px` },
				children: ticks(low, high).map((tick) => a("span", {
					style: { top: up(tick) },
					children: figure(tick)
				}, tick))
			}),
			a("svg", {
				width: "100%",
				height,
				children: [
					zone && zone.high > zone.low && a("rect", {
						class: "zone",
						x: across(Math.max(zone.low, left)),
						width: `${.94 * (percent$1(zone.high, left, right) - percent$1(zone.low, left, right))}%`,
						y: "0",
						height: "100%"
					}),
					band && a("rect", {
						class: "chance",
						x: "0",
						width: "100%",
						y: up(band.high),
						height: `${percent$1(band.high, low, high) - percent$1(band.low, low, high)}%`
					}),
					ticks(low, high).map((tick) => a("line", {
						class: "grid",
						x1: "0",
						x2: "100%",
						y1: up(tick),
						y2: up(tick)
					}, tick)),
					left < 0 && right > 0 && a("line", {
						class: "zero",
						x1: across(0),
						x2: across(0),
						y1: "0",
						y2: "100%"
					}),
					mark && a("line", {
						class: "mark",
						x1: "0",
						x2: "100%",
						y1: up(mark.at),
						y2: up(mark.at)
					}),
					mark && a("text", {
						x: "100%",
						y: up(mark.at),
						dx: "-4",
						dy: "-4",
						"text-anchor": "end",
						children: mark.label
					}),
					sorted.slice(1).map((point, n) => a("line", {
						class: "line",
						x1: across(sorted[n].x),
						y1: up(sorted[n].y),
						x2: across(point.x),
						y2: up(point.y)
					}, point.x)),
					sorted.map((point) => a(Dot, {
						point,
						across,
						up
					}, point.x))
				]
			}),
			a("div", {
				class: "strengths",
				children: labelled(xs, left, right).map((x) => a("span", {
					style: { left: across(x) },
					children: figure(x)
				}, x))
			})
		]
	});
}
function Dot({ point, across, up }) {
	const [x, y] = [across(point.x), up(point.y)];
	return a("g", {
		class: `dot ${point.x > 0 ? "plus" : point.x < 0 ? "minus" : "base"}`,
		children: [point.low !== void 0 && point.high !== void 0 && a("line", {
			class: "whisker",
			x1: x,
			x2: x,
			y1: up(point.low),
			y2: up(point.high)
		}), point.broken ? a("text", {
			class: "broken",
			x,
			y,
			dy: "5",
			"text-anchor": "middle",
			children: "▲"
		}) : a("circle", {
			cx: x,
			cy: y,
			r: "4.5"
		})]
	});
}
function labelled(xs, left, right) {
	const taken = [];
	const order = [...xs].sort((a, b) => Number(!Number.isInteger(a)) - Number(!Number.isInteger(b)) || Math.abs(a) - Math.abs(b));
	for (const x of order) if (taken.every((other) => Math.abs(other - x) > .11 * (right - left))) taken.push(x);
	return taken;
}
// src/charts/numbers.tsx
function Numbers({ caption, head, rows }) {
	return a("details", {
		class: "numbers",
		children: [a("summary", { children: "The same as numbers" }), a("div", {
			class: "scroll",
			tabIndex: 0,
			role: "region",
			"aria-label": caption,
			children: a("table", {
				class: "data",
				children: [
					a("caption", {
						class: "vh",
						children: caption
					}),
					a("thead", { children: a("tr", { children: head.map((each) => a("th", {
						scope: "col",
						children: each
					}, each)) }) }),
					a("tbody", { children: rows.map(([first, ...others]) => a("tr", { children: [a("th", {
						scope: "row",
						children: first
					}), others.map((each, n) => a("td", { children: each }, n))] }, first)) })
				]
			})
		})]
	});
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
function signed(value, digits = 2) {
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
var draft$1 = kept("draft", "", isString);
var since = y$1(0);
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
	const { steering, system } = asksFor(column, turn === turns.value.at(-1) ? dials.value : turn.dials);
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
	return a("dialog", {
		ref: dialog,
		class: wide ? "wide" : "",
		"aria-labelledby": heading,
		onClose,
		onClick: (event) => {
			if (event.target === event.currentTarget) onClose();
		},
		children: [a("header", { children: [a("h2", {
			id: heading,
			children: title
		}), a("button", {
			type: "button",
			onClick: onClose,
			children: "Close"
		})] }), a("div", {
			class: "body",
			children
		})]
	});
}
// src/parts/notice.tsx
function Problem({ error, children }) {
	const { what, fix } = asProblem(error);
	return a("div", {
		class: "notice bad",
		role: "alert",
		children: [a("p", { children: [
			a("strong", { children: sentence$1(what) }),
			" ",
			fix && sentence$1(fix)
		] }), children && a("p", {
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
	return name === null ? null : a(Opened$1, { name }, name);
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
	return a(Dialog, {
		title: `Where ${name} breaks`,
		wide: true,
		onClose: () => breaksOf.value = null,
		children: a("div", {
			class: "stack",
			children: [
				a("form", {
					class: "stack tight",
					onSubmit: (event) => {
						event.preventDefault();
						run();
					},
					children: [a("label", {
						class: "field",
						children: [a("span", {
							class: "label",
							children: "Message"
						}), a("textarea", {
							rows: 2,
							value: prompt,
							maxLength: 2e4,
							required: true,
							onInput: (event) => setPrompt(event.currentTarget.value)
						})]
					}), a("div", {
						class: "row",
						children: [
							a("button", {
								class: "go",
								disabled: running || !prompt.trim(),
								children: [
									"Answer at ",
									STRENGTHS.length,
									" strengths"
								]
							}),
							running && a("button", {
								type: "button",
								onClick: () => job && void halt(job.id),
								children: "Stop"
							}),
							a("span", {
								class: "hint",
								children: safe ? `Card: safe from ${signed(safe.low)} to ${signed(safe.high)}` : "No safe range was measured"
							})
						]
					})]
				}),
				error !== null && a(Problem, { error }),
				job?.error && a(Problem, { error: job.error }),
				running && a("progress", {
					"aria-label": "Strengths answered",
					max: STRENGTHS.length,
					value: rows.length
				}),
				rows.length > 0 && a(Rows, {
					name,
					rows,
					safe,
					waiting: running
				}),
				done && a("p", { children: [
					a("strong", { children: verdict(usableRange(rows)) }),
					" ",
					narrowed.value[name] && "The zone on the dial is narrowed to this for now."
				] }),
				rows.length > 1 && a(Charts, {
					rows,
					safe
				})
			]
		})
	});
}
function Rows({ name, rows, safe, waiting }) {
	const suggested = waiting ? null : suggestion(rows, safe);
	return a("ol", {
		class: "strength-rows",
		"aria-label": "Answers by strength",
		children: rows.map((row) => a("li", {
			class: row.usable ? "" : "unusable",
			children: [
				a("p", {
					class: "head",
					children: [
						a("strong", {
							class: "number",
							children: signed(row.strength)
						}),
						row.usable ? a("span", { children: "ok" }) : a("span", {
							class: "warn",
							children: ["▲ ", row.loops ? "repeats itself" : "no answer"]
						}),
						a("span", {
							class: "soft small",
							children: [
								row.kl === null ? "" : `${figure(row.kl, 2)} nat`,
								" · ",
								Math.round(100 * row.distinct),
								" % distinct"
							]
						}),
						row.strength === suggested && a("span", {
							class: "tag",
							children: "suggested"
						})
					]
				}),
				a("p", {
					class: "said",
					children: row.text.trim() || "(no answer)"
				}),
				a("button", {
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Measures by strength",
		children: [
			a("div", {
				class: "pair",
				children: [a(LineChart, {
					title: "KL, nat per token",
					summary: `KL by strength: ${spent.map((row) => `${signed(row.strength)}: ${figure(row.kl ?? 0, 2)}`).join(", ")}`,
					points: spent.map((row) => ({
						x: row.strength,
						y: row.kl ?? 0,
						broken: !row.usable
					})),
					zone: safe,
					from: 0
				}), a(LineChart, {
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
			a("p", {
				class: "hint",
				children: "▲ marks strengths whose answer is not usable. The shaded part is the card's safe range."
			}),
			a(Numbers, {
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
	const within = rows.map((row) => row.strength).filter((strength) => strength > 0 && strength <= Math.min(usable.high, safe?.high ?? 1e400));
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
	return a(Dialog, {
		title: "Keys",
		onClose: () => keysOpen.value = false,
		children: a("div", {
			class: "stack",
			children: [a("table", {
				class: "data",
				children: [a("thead", { children: a("tr", { children: [a("th", {
					scope: "col",
					children: "Key"
				}), a("th", {
					scope: "col",
					children: "Does"
				})] }) }), a("tbody", { children: [
					shortcuts().map(({ key, does }) => a("tr", { children: [a("td", { children: a("kbd", { children: NAMES[key] ?? key.toUpperCase() }) }), a("td", { children: does })] }, key)),
					a("tr", { children: [a("td", { children: [
						a("kbd", { children: "Ctrl" }),
						" or ",
						a("kbd", { children: "⌘" }),
						" with ",
						a("kbd", { children: "Enter" })
					] }), a("td", { children: "Send the message" })] }),
					a("tr", { children: [a("td", { children: [
						a("kbd", { children: "←" }),
						" ",
						a("kbd", { children: "→" }),
						", ",
						a("kbd", { children: "Page Up" }),
						" ",
						a("kbd", { children: "Page Down" })
					] }), a("td", { children: "Turn a dial by 0.05, by 0.25" })] }),
					a("tr", { children: [a("td", { children: [
						a("kbd", { children: "Home" }),
						" ",
						a("kbd", { children: "End" }),
						", ",
						a("kbd", { children: "0" })
					] }), a("td", { children: "Turn a dial to the ends of its safe range, to 0" })] })
				] })]
			}), a("label", {
				class: "check",
				children: [a("input", {
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
function quoted(text) {
	return JSON.stringify(text);
}
function shell(text) {
	return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
// src/parts/use.tsx
var tab = y$1("curl");
function UseInApp() {
	return codeOpen.value ? a(Opened, {}) : null;
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
	return a(Dialog, {
		title: "Use in my app",
		wide: true,
		onClose: () => codeOpen.value = false,
		children: a("div", {
			class: "stack",
			children: [
				a("p", { children: text.value === "none" ? "No dial is on, so this code steers nothing." : a($, { children: [
					"The code steers with ",
					a("code", { children: text.value }),
					", as the dials are now."
				] }) }),
				a("div", {
					role: "tablist",
					"aria-label": "Client",
					onKeyDown: (event) => moveTab(event, all),
					children: all.map((each) => a("button", {
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
				a("div", {
					role: "tabpanel",
					id: "snippet",
					"aria-labelledby": `tab-${shown.id}`,
					class: "stack",
					children: [a("p", {
						class: "hint",
						children: shown.note
					}), shown.code === null ? a(SavePreset$1, {}) : a(Code, {
						code: shown.code,
						title: shown.title
					}, shown.id)]
				})
			]
		})
	});
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
	return a($, { children: [a("pre", {
		tabIndex: 0,
		"aria-label": `Code for ${title}`,
		children: a("code", { children: code })
	}), a("p", {
		class: "row",
		children: [
			a("button", {
				type: "button",
				class: "go",
				onClick: () => void copy(),
				children: "Copy"
			}),
			copied === "copied" && a("span", { children: "Copied" }),
			copied === "failed" && a("span", {
				class: "warn",
				children: "▲ The browser does not allow it. Select the text and copy it."
			})
		]
	})] });
}
function SavePreset$1({ onSaved }) {
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
	return a("form", {
		class: "stack tight",
		onSubmit: (event) => {
			event.preventDefault();
			save();
		},
		children: [
			a("p", { children: "Save the dials as a preset. Its name is then a model's name." }),
			a("div", {
				class: "row",
				children: [
					a("label", {
						class: "row",
						children: [a("span", {
							class: "label",
							children: "Name"
						}), a("input", {
							value: name,
							required: true,
							pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}",
							title: "Letters, digits, '.', '_' and '-'",
							autocomplete: "off",
							onInput: (event) => setName(event.currentTarget.value)
						})]
					}),
					a("button", {
						class: "go",
						disabled: !name || taken,
						children: "Save"
					}),
					taken && a("span", {
						class: "warn",
						children: "▲ There is a preset of this name"
					})
				]
			}),
			error !== null && a(Problem, { error })
		]
	});
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
	return a("div", {
		class: "bars",
		role: "img",
		"aria-label": summary,
		children: [bars.map((bar) => a("div", {
			class: "bar-row",
			children: [
				a("span", {
					class: "bar-label",
					children: bar.label
				}),
				a("svg", {
					width: "100%",
					height: "26",
					children: [
						band && a("rect", {
							class: "chance",
							x: at(band.low),
							width: wide(band.low, band.high),
							y: "0",
							height: "100%"
						}),
						a("rect", {
							class: `bar ${bar.tone ?? "base"}`,
							x: at(Math.min(0, bar.value)),
							width: wide(0, bar.value),
							y: "6",
							height: "14"
						}),
						bar.low !== void 0 && bar.high !== void 0 && a("line", {
							class: "whisker",
							x1: at(bar.low),
							x2: at(bar.high),
							y1: "13",
							y2: "13"
						}),
						a("line", {
							class: "zero",
							x1: at(0),
							x2: at(0),
							y1: "0",
							y2: "100%"
						})
					]
				}),
				a("span", {
					class: "bar-value",
					children: change$1(bar.value)
				})
			]
		}, bar.label)), a("div", {
			class: "bar-row",
			children: [
				a("span", {
					class: "bar-label soft",
					children: unit
				}),
				a("div", {
					class: "strengths",
					children: ticks(low, high, 3).map((tick) => a("span", {
						style: { left: at(tick) },
						children: figure(tick)
					}, tick))
				}),
				a("span", {})
			]
		})]
	});
}
// src/parts/card-charts.tsx
function CardCharts({ details }) {
	const { card } = details;
	const written = card?.written ? [card.written["default"], card.written["safe"]].filter((each) => Boolean(each)) : details.written;
	return a($, { children: [
		written.length > 0 && a(Written, {
			details,
			written
		}),
		card && a(Preference, { card }),
		card && a(Cost, { card })
	] });
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Written effect",
		children: [
			a("h2", { children: "What it does to answers" }),
			a("p", {
				class: "hint",
				children: [
					"Written effect: how much more an answer sounds like ",
					poles?.["+"] ?? "the positive pole",
					" than like ",
					poles?.["-"] ?? "the negative pole",
					", by the unsteered model's own judgement, in nat per token. Lines are 95 % intervals.",
					chance && " Grey: where random directions of the same KL come to."
				]
			}),
			a("div", {
				class: "pair",
				children: [a(LineChart, {
					title: "Written effect by strength",
					summary: `Written effect by strength: ${points.map((point) => `${signed(point.x, 3)}: ${change$1(point.y)}`).join(", ")}.${beyond}`,
					points,
					zone: safe,
					band: chance,
					from: 0,
					height: 180
				}), a(Bars, {
					summary: `Vector and system prompts: ${prompts.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
					bars: prompts,
					band: chance,
					unit: "nat per token"
				})]
			}),
			a(Numbers, {
				caption: "Written effects",
				head: [
					"",
					"Effect",
					"95 % interval"
				],
				rows: [
					...[...points].sort((a, b) => a.x - b.x).map((point) => [
						`strength ${signed(point.x, 3)}`,
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
			})
		]
	});
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Preference",
		children: [
			a("h2", { children: "What it does to preferences" }),
			a("p", {
				class: "hint",
				children: [
					"How much likelier answers in the character of ",
					card.positive,
					" become than those of ",
					card.negative,
					", in nat per token."
				]
			}),
			a(Bars, {
				summary: `Preference: ${bars.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
				bars,
				unit: "nat per token"
			}),
			a(Numbers, {
				caption: "Preference effects",
				head: [
					"",
					"Effect",
					"95 % interval"
				],
				rows: bars.map((bar) => [
					bar.label,
					change$1(bar.value),
					range(bar)
				])
			})
		]
	});
}
function Cost({ card }) {
	const ends = ["-", "+"].flatMap((sign) => {
		const cost = card.cost[sign];
		const end = sign === "+" ? card.safe?.high : card.safe?.low;
		return cost ? [{
			sign,
			cost,
			label: end === void 0 ? sign : signed(end, 3)
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Cost",
		children: [
			a("h2", { children: "What it costs at the ends of the safe range" }),
			a("p", {
				class: "hint",
				children: "Change of the share of simple facts that the model knows, and of how near answers stay to their question, in points of a hundred."
			}),
			bars.length > 0 && a(Bars, {
				summary: `Changes: ${bars.map((bar) => `${bar.label}: ${change$1(bar.value)}`).join(", ")}`,
				bars,
				unit: "points"
			}),
			a("div", {
				class: "scroll",
				tabIndex: 0,
				role: "region",
				"aria-label": "Costs",
				children: a("table", {
					class: "data costs",
					children: [a("thead", { children: a("tr", { children: [a("th", {
						scope: "col",
						children: "Measure"
					}), ends.map(({ label }) => a("th", {
						scope: "col",
						class: "number",
						children: ["at ", label]
					}, label))] }) }), a("tbody", { children: measures(card).map(({ name, of }) => a("tr", { children: [a("th", {
						scope: "row",
						children: name
					}), ends.map(({ sign, label }) => a("td", {
						class: "number",
						children: of(sign)
					}, label))] }, name)) })]
				})
			})
		]
	});
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
var GLYPHS$1 = {
	works: "✓",
	"one way only": "◐",
	weak: "○",
	"does not work": "✕"
};
function glyph(verdict) {
	return (verdict && GLYPHS$1[verdict]) ?? "·";
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
	if (!there) return a(Gone, {
		job,
		name
	});
	const { word, sentences } = details ? verdictOf(details) : {
		word: "",
		sentences: []
	};
	return a("div", {
		class: "stack",
		children: [
			details && a("div", {
				class: "stack tight",
				children: [a("p", { children: a("strong", { children: word }) }), sentences.map((each) => a("p", { children: each }, each))]
			}),
			details && a(Samples$1, {
				job,
				details
			}),
			error !== null && a(Problem, { error }),
			a("div", {
				class: "row",
				children: [
					a("button", {
						type: "button",
						class: "go",
						onClick: () => {
							add(name);
							location.hash = "try";
						},
						children: "Try it"
					}),
					a("button", {
						type: "button",
						onClick: () => dismiss(job.id),
						children: "Keep"
					}),
					a("button", {
						type: "button",
						onClick: () => openCard(name),
						children: "Card"
					}),
					a("button", {
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
	return a("p", {
		class: "row",
		children: [a("span", { children: [
			"The vector ",
			name,
			" is no longer there."
		] }), a("button", {
			type: "button",
			onClick: () => dismiss(job.id),
			children: "Dismiss"
		})]
	});
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
	if (error !== null) return a(Problem, { error });
	const rows = sweep ? findingsOf(sweep, "strength") : [];
	if (!rows.length) return a("p", {
		class: "soft",
		role: "status",
		children: [
			"Answering “",
			QUESTION,
			"” both ways…"
		]
	});
	return a("section", {
		class: "stack tight",
		"aria-label": "Samples",
		children: [a("p", {
			class: "small",
			children: [
				"“",
				QUESTION,
				"”"
			]
		}), a("div", {
			class: "samples",
			children: rows.map((row) => a("div", {
				class: "stack tight",
				children: [a("p", {
					class: "small",
					children: [
						a("strong", { children: row.strength ? signed(row.strength) : "as it is" }),
						" ",
						!row.usable && a("span", {
							class: "warn",
							children: ["▲ ", row.loops ? "repeats itself" : "no answer"]
						})
					]
				}), a("blockquote", {
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
	return a("article", {
		class: "card job stack",
		"aria-label": `${nameOf(job)} ${WORDS$2[job.status]}`,
		children: [
			a("div", {
				class: "row",
				children: [
					a("h2", {
						class: "grow",
						children: [
							nameOf(job),
							" ",
							a("span", {
								class: "soft",
								children: WORDS$2[job.status]
							})
						]
					}),
					!hasEnded(job) && a(TimeLeft, { job }),
					!hasEnded(job) && a("button", {
						type: "button",
						onClick: () => act(halt(job.id)),
						children: "Stop: what was found is kept"
					}),
					(job.status === "stopped" || job.status === "failed") && a($, { children: [a("button", {
						type: "button",
						class: "go",
						onClick: () => act(resume(job.id)),
						children: job.status === "failed" ? "Try again" : "Go on"
					}), a("button", {
						type: "button",
						onClick: () => dismiss(job.id),
						children: "Dismiss"
					})] })
				]
			}),
			error !== null && a(Problem, { error }),
			job.error && a(Problem, { error: job.error }),
			job.status === "done" ? a(Made$1, { job }) : a("div", {
				class: "columns",
				children: [a(Phases, { job }), a(Findings, { job })]
			}),
			job.status === "done" && a("details", { children: [a("summary", { children: "How it was made" }), a("div", {
				class: "columns",
				children: [a(Phases, { job }), a(Findings, { job })]
			})] })
		]
	});
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
	return a("span", {
		class: "soft",
		children: job.status === "queued" ? `then about ${duration(left)}` : `about ${duration(left)} left`
	});
}
function Phases({ job }) {
	const done = new Map();
	for (const { phase, seconds } of job.phases) done.set(phase, Math.max(seconds, done.get(phase) ?? 0));
	const now = hasEnded(job) ? null : job.progress;
	if (now) done.delete(now.phase);
	const expected = job.expected ?? {};
	const later = job.status === "done" ? [] : Object.keys(expected).filter((phase) => !done.has(phase) && phase !== now?.phase);
	return a("ol", {
		class: "phases",
		"aria-label": "Phases",
		children: [
			[...done].map(([phase, seconds]) => a("li", { children: [
				a("span", {
					"aria-label": "done",
					children: "✓"
				}),
				a("span", { children: phase }),
				a("span", {
					class: "soft number",
					children: [seconds < 10 ? seconds.toFixed(1) : Math.round(seconds), " s"]
				})
			] }, phase)),
			now && job.status === "running" && a("li", {
				"aria-current": "step",
				children: [
					a("span", {
						"aria-label": "now",
						children: "▶"
					}),
					a("strong", { children: now.phase }),
					a("span", {
						class: "soft number",
						children: [now.total > 1 ? `${now.done} of ${now.total}` : "", now.status && ` · ${now.status}`]
					}),
					now.total > 1 ? a("progress", {
						"aria-label": now.phase,
						max: now.total,
						value: now.done
					}) : a("progress", { "aria-label": now.phase }),
					now.note && a("span", {
						class: "soft small",
						children: now.note
					})
				]
			}, now.phase),
			later.map((phase) => a("li", {
				class: "later",
				children: [a("span", {
					"aria-label": "later",
					children: "·"
				}), a("span", { children: phase })]
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
	return a("div", {
		class: "stack",
		"aria-label": "Found so far",
		role: "group",
		children: [
			agreement && a("p", { children: [
				agreement.pairs,
				" pairs agree with cosine ",
				agreement.cosine.toFixed(2),
				"; along their direction",
				" ",
				Math.round(100 * agreement.separation),
				" % lie the right way round."
			] }),
			unlike.map((each) => a("div", {
				class: "stack tight",
				children: [a("p", {
					class: "small",
					children: [
						"Asked to be either, the model answers “",
						each.question,
						"” with"
					]
				}), a("div", {
					class: "both",
					children: [a("blockquote", {
						class: "plus",
						children: ["+ ", each.positive]
					}), a("blockquote", {
						class: "minus",
						children: ["− ", each.negative]
					})]
				})]
			}, each.question)),
			layers && a(Layers, {
				shares: layers.shares,
				tried: layers.tried
			})
		]
	});
}
function Layers({ shares, tried }) {
	const layers = Object.entries(shares).map(([layer, share]) => [Number(layer), share]).sort(([a], [b]) => a - b);
	const most = layers.reduce((best, each) => each[1] > best[1] ? each : best, layers[0] ?? [0, 0]);
	return a("div", {
		class: "stack tight",
		children: [a("p", { children: `It steers layers ${layers[0]?.[0]} to ${layers.at(-1)?.[0]}, layer ${most[0]} the most${tried ? `; ${tried} choices of layers were compared` : ""}.` }), a("div", {
			class: "layers",
			role: "img",
			"aria-label": `Share of each layer: ${layers.map(([layer, share]) => `${layer}: ${Math.round(100 * share)} %`).join(", ")}`,
			children: layers.map(([layer, share]) => a("span", {
				style: { height: `${Math.max(100 * share, 2)}%` },
				title: `layer ${layer}: ${Math.round(100 * share)} %`
			}, layer))
		})]
	});
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Safe range",
		children: [
			a("h2", { children: [
				"Safe range: ",
				signed(low, 3),
				" to ",
				signed(high, 3)
			] }),
			a("div", {
				class: "safe-track",
				"aria-hidden": "true",
				children: [a("span", {
					class: "inside",
					style: {
						left: at(low),
						right: `calc(100% - ${at(high)})`
					}
				}), a("span", { class: "middle" })]
			}),
			a("div", {
				class: "row small",
				children: [a("span", { children: [
					a("span", {
						class: "minus",
						children: ["− ", poles?.["-"] ?? ""]
					}),
					" below ",
					signed(low, 3),
					", ",
					why("-")
				] }), a("span", {
					class: "end",
					children: [
						"above ",
						signed(high, 3),
						", ",
						why("+"),
						" ",
						a("span", {
							class: "plus",
							children: [poles?.["+"] ?? "", " +"]
						})
					]
				})]
			})
		]
	});
}
// src/parts/undo.tsx
function Undo() {
	const [error, setError] = d$2(null);
	if (!deleted$1.value) return null;
	return a("div", {
		class: "stack tight",
		children: [a("p", {
			class: "notice row",
			children: [
				a("span", { children: [a("strong", { children: deleted$1.value.name }), " is deleted."] }),
				a("button", {
					type: "button",
					onClick: () => void restoreVector().catch(setError),
					children: "Undo"
				}),
				a("button", {
					type: "button",
					class: "quiet",
					onClick: () => deleted$1.value = null,
					children: "Dismiss"
				})
			]
		}), error !== null && a(Problem, { error })]
	});
}
// src/parts/card-page.tsx
function CardPage({ name }) {
	const [details, setDetails] = d$2(null);
	const [error, setError] = d$2(null);
	const evaluations = jobs.value.filter((job) => job.kind === "evaluate" && nameOf(job) === name);
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
		evaluations.filter((job) => job.status === "done").length,
		vectorOf.value.has(name)
	]);
	return a("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack card-page",
		children: [
			a("p", { children: a("a", {
				href: "#library",
				children: "All vectors"
			}) }),
			a("h1", { children: name }),
			a(Undo, {}),
			error !== null && a(Problem, {
				error,
				children: error instanceof ApiError && error.status === 404 && a("a", {
					href: "#library",
					children: "See what there is"
				})
			}),
			!details && error === null && a("p", {
				class: "soft",
				role: "status",
				children: "Reading the card…"
			}),
			details && a(Card, {
				details,
				onError: setError
			}),
			evaluations.filter((job) => !hasEnded(job) || job.status === "failed").slice(0, 1).map((job) => a(JobPanel, { job }, job.id))
		]
	});
}
function Card({ details, onError }) {
	const { name, card, poles, safe } = details;
	const { word, sentences } = verdictOf(details);
	const reasons = safe && card?.safe ? card.safe.reasons : details.header.safe?.reasons;
	return a($, { children: [
		a("div", {
			class: "row",
			children: [
				a("button", {
					type: "button",
					class: "go",
					onClick: () => {
						add(name);
						location.hash = "try";
					},
					children: "Try it"
				}),
				a("button", {
					type: "button",
					onClick: () => openBreaks(name),
					children: "Find where it breaks"
				}),
				a("button", {
					type: "button",
					onClick: () => saveFile(`/v1/vectors/${encodeURIComponent(name)}/file`, `${name}.safetensors`).catch(onError),
					children: "Download"
				}),
				!card && info.value?.capabilities.jobs && a(Evaluate, {
					details,
					onError
				}),
				details.own && a("button", {
					type: "button",
					class: "danger",
					onClick: () => deleteVector(name).then(() => location.hash = "library", onError),
					children: "Delete"
				})
			]
		}),
		poles && a("p", { children: [
			a("span", {
				class: "plus",
				children: ["+ ", poles["+"]]
			}),
			" · ",
			a("span", {
				class: "minus",
				children: ["− ", poles["-"]]
			})
		] }),
		a("section", {
			class: "stack tight",
			"aria-label": "Verdict",
			children: [a("h2", { children: word }), a("ul", {
				class: "sentences",
				children: sentences.map((each) => a("li", { children: each.replaceAll(/(?<![\w±])-(?=\d)/g, "−") }, each))
			})]
		}),
		safe && a(SafeRange, {
			low: safe.low,
			high: safe.high,
			reasons: reasons ?? {},
			poles
		}),
		a(CardCharts, { details }),
		card && card.samples.length > 0 && a(Samples, { details }),
		a(Made, { details })
	] });
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
	return a("button", {
		type: "button",
		disabled: running,
		onClick: evaluate,
		children: "Evaluate it: some minutes"
	});
}
function Samples({ details }) {
	const at = details.card?.written?.["default"]?.strengths;
	const [low, high] = [signed(at?.["-"] ?? -.5), signed(at?.["+"] ?? .5)];
	return a("section", {
		class: "stack tight",
		"aria-label": "Samples",
		children: [a("h2", { children: "Samples" }), details.card?.samples.map((sample) => a("div", {
			class: "stack tight",
			children: [a("p", { children: [
				"“",
				sample.question,
				"”"
			] }), a("div", {
				class: "samples",
				children: [
					a("div", { children: [a("p", {
						class: "small",
						children: a("strong", { children: low })
					}), a("blockquote", {
						class: "minus",
						children: sample.minus
					})] }),
					a("div", { children: [a("p", {
						class: "small",
						children: a("strong", { children: "as it is" })
					}), a("blockquote", { children: sample.base })] }),
					a("div", { children: [a("p", {
						class: "small",
						children: a("strong", { children: high })
					}), a("blockquote", {
						class: "plus",
						children: sample.plus
					})] })
				]
			})]
		}, sample.question))]
	});
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
	return a("section", {
		class: "stack tight",
		"aria-label": "How it was made",
		children: [a("h2", { children: "How it was made" }), a("dl", {
			class: "facts",
			children: facts.map(([term, text]) => a("div", { children: [a("dt", { children: term }), a("dd", { children: text })] }, term))
		})]
	});
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
	return a("section", {
		class: "stack tight",
		"aria-label": "Presets",
		children: [
			a("h2", { children: "Presets" }),
			a("p", {
				class: "hint",
				children: "A steering with a name, which any client can choose as a model."
			}),
			deleted.value && a("p", {
				class: "notice row",
				children: [a("span", { children: [
					"The preset ",
					a("strong", { children: deleted.value.name }),
					" is deleted."
				] }), deleted.value.preset && a("button", {
					type: "button",
					onClick: () => act(restore(deleted.value)),
					children: "Undo"
				})]
			}),
			error !== null && a(Problem, { error }),
			a("div", {
				class: "scroll",
				tabIndex: 0,
				role: "region",
				"aria-label": "Table of presets",
				children: a("table", {
					class: "data",
					children: [a("thead", { children: a("tr", { children: [
						a("th", {
							scope: "col",
							children: "Name"
						}),
						a("th", {
							scope: "col",
							children: "Steering"
						}),
						a("th", {
							scope: "col",
							children: "As a model"
						}),
						a("th", {
							scope: "col",
							children: a("span", {
								class: "vh",
								children: "What to do"
							})
						})
					] }) }), a("tbody", { children: presets.value.map((preset) => a("tr", { children: [
						a("th", {
							scope: "row",
							children: preset.name
						}),
						a("td", { children: preset.usable ? a("code", { children: steeringOf(preset) ?? "by the stage of the conversation" }) : a("span", {
							class: "warn",
							children: ["▲ Not usable: ", preset.problem]
						}) }),
						a("td", { children: a("code", { children: preset.model }) }),
						a("td", {
							class: "do",
							children: [preset.usable && steeringOf(preset) && a("button", {
								type: "button",
								onClick: () => act(take(steeringOf(preset)).then(() => location.hash = "try")),
								children: ["Try", a("span", {
									class: "vh",
									children: [" ", preset.name]
								})]
							}), !preset.shipped && a("button", {
								type: "button",
								onClick: () => act(remove(preset)),
								children: ["Delete", a("span", {
									class: "vh",
									children: [" ", preset.name]
								})]
							})]
						})
					] }, preset.name)) })]
				})
			})
		]
	});
}
function steeringOf(preset) {
	const steering = preset.preset?.["steering"];
	return typeof steering === "string" ? steering : null;
}
// src/parts/upload.tsx
function Upload() {
	const [chosen, setChosen] = d$2(null);
	const [name, setName] = d$2("");
	const [share, setShare] = d$2(null);
	const [error, setError] = d$2(null);
	const [done, setDone] = d$2("");
	const most = info.value?.limits.vector_bytes ?? 1e400;
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
	return a("form", {
		class: "card stack tight",
		"aria-label": "Upload a vector",
		onSubmit: (event) => {
			event.preventDefault();
			send(false);
		},
		children: [
			a("h2", { children: "Upload a vector" }),
			a("div", {
				class: "row",
				children: [
					a("label", {
						class: "field",
						children: [a("span", {
							class: "label",
							children: "File (.safetensors)"
						}), a("input", {
							type: "file",
							accept: ".safetensors",
							onChange: (event) => choose(event.currentTarget.files?.[0])
						})]
					}),
					a("label", {
						class: "field",
						children: [a("span", {
							class: "label",
							children: "Name"
						}), a("input", {
							value: name,
							required: true,
							maxLength: 64,
							pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
							title: "Letters, digits, '.', '_' and '-'",
							autocomplete: "off",
							onInput: (event) => setName(event.currentTarget.value)
						})]
					}),
					a("button", {
						class: "go",
						disabled: !chosen || !name || share !== null || chosen.size > most,
						children: "Upload"
					})
				]
			}),
			share !== null && a("progress", {
				"aria-label": "Uploaded",
				max: 1,
				value: share
			}),
			done && a("p", { children: [done, " is uploaded, and is served at once."] }),
			error !== null && a(Problem, {
				error,
				children: exists && a("button", {
					type: "button",
					onClick: () => void send(true),
					children: "Replace it"
				})
			})
		]
	});
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
var WORST_FIRST = [
	"does not work",
	"weak",
	"one way only",
	"works"
];
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
		by: (line) => line.poles
	},
	{
		id: "verdict",
		title: "Verdict",
		by: (line) => WORST_FIRST.indexOf(line.vector?.verdict ?? "")
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
		by: (line) => line.vector?.default_strength ?? -9
	},
	{
		id: "effort",
		title: "Effort",
		by: (line) => EFFORTS.indexOf(line.vector?.effort ?? "")
	},
	{
		id: "from",
		title: "From",
		by: (line) => line.vector ? line.vector.own ? 0 : 1 : 2
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
	return a("section", {
		class: "stack",
		"aria-label": "Vectors and behaviours",
		children: [
			a("div", {
				class: "row",
				children: [a("label", {
					class: "row grow",
					children: [a("span", {
						class: "label",
						children: "Search"
					}), a("input", {
						type: "search",
						class: "grow",
						value: query.value,
						onInput: (event) => query.value = event.currentTarget.value
					})]
				}), a("span", {
					class: "soft",
					role: "status",
					children: [
						shown$1.value.length,
						" of ",
						lines$1.value.length
					]
				})]
			}),
			error !== null && a(Problem, { error }),
			a("div", {
				class: "scroll",
				tabIndex: 0,
				role: "region",
				"aria-label": "Table of vectors and behaviours",
				children: a("table", {
					class: "data library",
					children: [
						a("caption", {
							class: "vh",
							children: "Vectors and behaviours"
						}),
						a("thead", { children: a("tr", { children: [COLUMNS.map((column) => a(Head, { ...column }, column.id)), a("th", {
							scope: "col",
							children: a("span", {
								class: "vh",
								children: "What to do"
							})
						})] }) }),
						a("tbody", { children: shown$1.value.map((line) => a(Row, {
							line,
							onError: setError
						}, line.name)) })
					]
				})
			}),
			shown$1.value.length === 0 && a("p", { children: "Nothing is called or described so." }),
			a("p", {
				class: "hint",
				children: "Times the prompt: how much more a vector moves what the model writes at its default strength than system prompts for its two poles do. Safe range: strengths at which the text holds together."
			})
		]
	});
}
function Head({ id, title, number }) {
	const { id: by, down } = sorting.value;
	const sorted = by === id ? down ? "descending" : "ascending" : void 0;
	const next = by === id ? !down : Boolean(number) || id === "verdict" || id === "effort";
	return a("th", {
		scope: "col",
		class: number ? "number" : "",
		"aria-sort": sorted,
		children: a("button", {
			type: "button",
			onClick: () => sorting.value = {
				id,
				down: next
			},
			children: [
				title,
				" ",
				a("span", {
					"aria-hidden": "true",
					children: sorted ? down ? "▼" : "▲" : ""
				})
			]
		})
	});
}
function Row({ line, onError }) {
	const { name, vector, problem } = line;
	const seconds = expected("train default");
	const train = () => {
		begin({
			kind: "train",
			name,
			behaviour: name,
			effort: "default",
			seed: 0,
			overwrite: false
		}).then(() => location.hash = "make", onError);
	};
	return a("tr", { children: [
		a("th", {
			scope: "row",
			children: vector ? a("a", {
				href: `#library/${encodeURIComponent(name)}`,
				children: name
			}) : name
		}),
		a("td", {
			title: line.about,
			children: line.poles
		}),
		vector ? a($, { children: [
			a("td", {
				class: "verdict",
				children: vector.verdict ? `${glyph(vector.verdict)} ${vector.verdict}` : a("span", {
					class: "soft",
					children: "not evaluated"
				})
			}),
			a("td", {
				class: "number",
				children: vector.times_prompt === null ? "–" : `${vector.times_prompt.toFixed(1)} ×`
			}),
			a("td", {
				class: "number range",
				children: vector.safe ? `${signed(vector.safe.low)} to ${signed(vector.safe.high)}` : "–"
			}),
			a("td", {
				class: "number",
				children: vector.default_strength === null ? "–" : signed(vector.default_strength)
			}),
			a("td", { children: vector.effort || "–" }),
			a("td", { children: vector.own ? "own" : "shipped" })
		] }) : a("td", {
			colSpan: 6,
			class: problem ? "warn" : "soft",
			children: problem ? `▲ Not usable: ${problem}` : `No vector for ${info.value?.model.served_as ?? "this model"} yet`
		}),
		a("td", {
			class: "do",
			children: [
				vector && a("button", {
					type: "button",
					onClick: () => {
						add(name);
						location.hash = "try";
					},
					children: ["Try", a("span", {
						class: "vh",
						children: [" ", name]
					})]
				}),
				vector?.own && a("button", {
					type: "button",
					onClick: () => deleteVector(name).catch(onError),
					children: ["Delete", a("span", {
						class: "vh",
						children: [" ", name]
					})]
				}),
				!vector && behaviours.value.some((each) => each.name === name) && !problem && info.value?.capabilities.jobs && a("button", {
					type: "button",
					onClick: train,
					children: [
						"Train",
						a("span", {
							class: "vh",
							children: [" ", name]
						}),
						seconds !== null && ` (about ${duration(seconds)})`
					]
				}),
				problem && a("button", {
					type: "button",
					onClick: () => deleteVector(name).catch(onError),
					children: ["Delete", a("span", {
						class: "vh",
						children: [" ", name]
					})]
				})
			]
		})
	] });
}
// src/places/library.tsx
var shown = y$1(named$1(location.hash));
addEventListener("hashchange", () => shown.value = named$1(location.hash));
function named$1(hash) {
	const match = /^#library\/(.+)$/.exec(hash);
	try {
		return match ? decodeURIComponent(match[1]) : null;
	} catch {
		return null;
	}
}
function Library() {
	if (shown.value !== null) return a(CardPage, { name: shown.value }, shown.value);
	return a("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack",
		children: [
			a("h1", { children: "Library" }),
			a(Undo, {}),
			a(VectorTable, {}),
			a(Upload, {}),
			a(Presets, {})
		]
	});
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
	return a("ul", {
		class: "hints",
		"aria-label": "Hints",
		"aria-live": "polite",
		children: unlike(draft.value?.findings ?? []).map((finding, n) => a("li", { children: [
			a("span", {
				class: finding.level === "note" ? "soft" : "warn",
				children: [
					finding.level === "note" ? "·" : "▲",
					" ",
					WORDS$1[finding.level]
				]
			}),
			" ",
			place$2(finding.where),
			": ",
			finding.problem,
			". ",
			finding.fix && a("span", {
				class: "soft",
				children: [capital(finding.fix), "."]
			})
		] }, n))
	});
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
	return a("form", {
		class: "stack",
		"aria-label": "A new vector",
		onSubmit: (event) => {
			event.preventDefault();
			start();
		},
		children: [
			a("fieldset", {
				class: "stack tight",
				children: [a("legend", { children: "Where from" }), a("div", {
					class: "row",
					children: Object.keys(SOURCES).map((each) => a("label", {
						class: "check",
						children: [a("input", {
							type: "radio",
							name: "source",
							checked: source === each,
							onChange: () => set({ source: each })
						}), SOURCES[each]]
					}, each))
				})]
			}),
			source === "poles" && a(Poles, {}),
			source === "file" && a(FromFile, {}),
			source === "prompt" && a(Prompt, { blocked: able?.gradients === false }),
			a("label", {
				class: "field",
				children: [
					a("span", {
						class: "label",
						children: "Name"
					}),
					a("input", {
						value: form.value.name,
						placeholder: name.value,
						maxLength: 64,
						pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*",
						title: "Letters, digits, '.', '_' and '-'",
						autocomplete: "off",
						onInput: (event) => set({ name: event.currentTarget.value })
					}),
					taken && a("span", {
						class: "warn",
						children: [
							"▲ You have a vector ",
							name.value,
							". Choose another name."
						]
					})
				]
			}),
			source !== "prompt" && a("fieldset", {
				class: "stack tight",
				children: [a("legend", { children: "Effort" }), EFFORTS$1.map((each) => a("label", {
					class: "check",
					children: [a("input", {
						type: "radio",
						name: "effort",
						checked: effort === each,
						onChange: () => set({ effort: each })
					}), a("span", { children: [
						ABOUT[each],
						" ",
						a(Time, { seconds: expected(`train ${each}`) })
					] })]
				}, each))]
			}),
			error !== null && a(Problem, { error }),
			draftProblem.value && source !== "prompt" && a(Problem, { error: draftProblem.value }),
			a("p", { children: a("button", {
				class: "go",
				disabled: !ready || taken || beginning,
				children: [source === "prompt" ? "Compile" : "Train", seconds !== null && `: about ${duration(seconds)} on this machine`]
			}) })
		]
	});
}
function Time({ seconds }) {
	return seconds === null ? null : a("span", {
		class: "soft",
		children: [
			"(about ",
			duration(seconds),
			")"
		]
	});
}
function Poles() {
	return a($, { children: [
		a(Pole, {
			side: "positive",
			sign: "+",
			title: "Towards"
		}),
		a(Pole, {
			side: "negative",
			sign: "−",
			title: "Against"
		}),
		a("p", {
			class: "hint",
			children: "Several ways of saying a pole make a better vector. Give both poles as many, line by line alike but for the point."
		}),
		a(Hints, {})
	] });
}
function Pole({ side, sign, title }) {
	const ways = form.value[side];
	const change = (next) => set({ [side]: next });
	return a("fieldset", {
		class: `pole stack tight ${side === "negative" ? "against" : ""}`,
		children: [
			a("legend", { children: [
				title,
				" (",
				sign,
				")"
			] }),
			ways.map((way, n) => a("div", {
				class: "way",
				children: [
					a("label", {
						for: `${side}-${n}`,
						children: ["You are", a("span", {
							class: "vh",
							children: [
								", ",
								title.toLowerCase(),
								", way ",
								n + 1
							]
						})]
					}),
					a("input", {
						id: `${side}-${n}`,
						value: way,
						placeholder: n === 0 ? EXAMPLES[side] : "another way to say it",
						maxLength: 1e3,
						autocomplete: "off",
						onInput: (event) => change(ways.map((old, at) => at === n ? event.currentTarget.value : old))
					}),
					ways.length > 1 && a("button", {
						type: "button",
						class: "quiet icon",
						"aria-label": `Remove way ${n + 1}`,
						onClick: () => change(ways.filter((_, at) => at !== n)),
						children: "✕"
					})
				]
			}, n)),
			a("p", { children: a("button", {
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
	return a($, { children: [
		a("div", {
			class: "field",
			children: [
				a("label", {
					for: "behaviour-file",
					children: "Behaviour or pairs"
				}),
				a("input", {
					id: "behaviour-file",
					type: "file",
					accept: ".toml,.json,.jsonl",
					onChange: (event) => void take(event.currentTarget.files?.[0])
				}),
				a("p", {
					class: "hint",
					children: "A behaviour as .toml or .json; or pairs as .jsonl or .json, each an object with \"positive\" and \"negative\". It is read in the browser and sent to your own server alone."
				})
			]
		}),
		file.value && a("p", { children: [
			file.value.name,
			" is read",
			draft.value?.name ? a($, { children: [" as the behaviour ", a("strong", { children: draft.value.name })] }) : null,
			"."
		] }),
		problem !== null && a(Problem, { error: problem }),
		a(Hints, {})
	] });
}
function Prompt({ blocked }) {
	return a("div", {
		class: "stack tight",
		children: [
			a("label", {
				class: "field",
				children: [a("span", {
					class: "label",
					children: "System prompt"
				}), a("textarea", {
					rows: 5,
					value: form.value.prompt,
					placeholder: "Answer in one short sentence.",
					onInput: (event) => set({ prompt: event.currentTarget.value })
				})]
			}),
			a("p", {
				class: "hint",
				children: "The vector then does what the prompt asks for, at strength 1, without its tokens in every request."
			}),
			blocked && a("p", {
				class: "warn",
				children: "▲ This model has no gradients, so prompts cannot be compiled. Use two poles instead."
			})
		]
	});
}
// src/parts/pairs-preview.tsx
function PairsPreview() {
	if (form.value.source === "prompt") return null;
	const preview = draft.value?.preview;
	return a("section", {
		class: "stack tight",
		"aria-label": "What the model will read",
		children: [a("h2", { children: "What the model will read" }), !preview ? a("p", {
			class: "soft",
			children: "Pairs of texts that differ in the poles alone appear here as you write."
		}) : a($, { children: [a("p", {
			class: "soft",
			children: [
				preview.pairs.length,
				" of ",
				preview.total,
				" pairs. The model's hidden states at the end of each text are compared."
			]
		}), a("ol", {
			class: "preview",
			children: preview.pairs.map((pair, n) => {
				const [plus, minus] = parted(pair.positive, pair.negative);
				return a("li", {
					class: "stack tight",
					children: [a(Text, {
						sign: "+",
						parts: plus
					}), a(Text, {
						sign: "−",
						parts: minus
					})]
				}, n);
			})
		})] })]
	});
}
function Text({ sign, parts: [before, own, after] }) {
	return a("pre", {
		class: sign === "+" ? "" : "against",
		tabIndex: 0,
		role: "group",
		"aria-label": sign === "+" ? "Towards" : "Against",
		children: [
			sign,
			" ",
			before,
			a("mark", { children: own }),
			after
		]
	});
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
	return a("main", {
		id: "main",
		tabIndex: -1,
		class: "page stack",
		children: [
			a("h1", { children: "Make" }),
			a(Undo, {}),
			making.length > 0 && a("section", {
				class: "stack",
				"aria-label": "Vectors being made",
				children: making.slice(0, SHOWN).map((job) => a(JobPanel, { job }, job.id))
			}),
			a("div", {
				class: "making",
				children: [a(MakeForm, {}), a(PairsPreview, {})]
			})
		]
	});
}
// src/state/answering.ts
var FLUSH_AFTER = 40;
var MAX_READINGS = 16;
var TRIES = 5;
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
	const text = textOf(answer);
	const { steering, system, temperature, seed } = answer;
	const messages = messagesOf(column, id, system);
	if (text) messages.push({
		role: "assistant",
		content: text
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
	const { messages, steering, temperature, seed } = asked;
	const body = {
		model: info.value?.model.served_as,
		messages,
		steering,
		readings: readable(turns.value.find((turn) => turn.id === target.id)?.dials ?? []),
		kl: true,
		logprobs: true,
		top_logprobs: 5,
		max_tokens: sampling.value.maxTokens,
		temperature,
		seed,
		n: target.count,
		stream: true
	};
	for await (const event of events("/v1/chat/completions", {
		body,
		signal
	})) {
		if (event.data === "[DONE]") return;
		const chunk = JSON.parse(event.data);
		const { error } = chunk;
		if (error) throw new ApiError(error.what ?? error.message, error.fix ?? null, error.code ?? "unknown", 500);
		takeChunk(target, chunk);
	}
	throw new ApiError("the answer broke off", "the text so far is kept", "lost", 0);
}
function readable(mix) {
	return [...new Set([colourBy.value, ...mix.map((dial) => dial.name)])].filter((name) => vectorOf.value.has(name)).slice(0, MAX_READINGS);
}
function takeChunk(target, chunk) {
	for (const { index, receipt, beyond_safe } of chunk.trimtab?.answers ?? []) change({
		...target,
		first: target.first + index,
		count: 1
	}, {
		receipt,
		beyondSafe: beyond_safe
	});
	for (const choice of chunk.choices) {
		const { delta, finish_reason: finish } = choice;
		const one = {
			...target,
			first: target.first + choice.index,
			count: 1
		};
		if (finish) change(one, { finish });
		const logprob = choice.logprobs?.content[0];
		if (!delta.content && !delta.reasoning && !logprob) continue;
		const readings = Object.entries(chunk.trimtab?.readings ?? {}).map(([name, z]) => [name, z[0] ?? 0]);
		arrived(one, {
			text: delta.content || delta.reasoning || "",
			readings: Object.fromEntries(readings),
			logprob: logprob?.logprob ?? null,
			others: (logprob?.top_logprobs ?? []).map((other) => ({
				text: other.token,
				logprob: other.logprob
			})),
			...delta.reasoning ? { thought: true } : {}
		});
	}
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
		if (/^#?$|^#try/.test(location.hash)) history.replaceState(null, "", address);
	});
	addEventListener("hashchange", takeAddress);
}
function takeAddress() {
	const state = { waiting: false };
	const [place, query] = location.hash.slice(1).split(/\?(.*)/s);
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
var HEIGHT = 160;
var MOST$1 = 3;
function ReadingsByTurn({ name, onPick }) {
	const all = turns.value;
	const columns = shown$2.value;
	const x = (n) => all.length < 2 ? WIDTH$1 / 2 : 20 + n / (all.length - 1) * 560;
	const y = (z) => HEIGHT / 2 - Math.min(Math.max(z, -3), MOST$1) / MOST$1 * (HEIGHT / 2 - 10);
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
	return a("section", {
		class: "stack tight",
		"aria-labelledby": "by-turn",
		children: [
			a("h3", {
				id: "by-turn",
				children: "Reading per turn"
			}),
			a("svg", {
				class: "chart",
				viewBox: `0 0 ${WIDTH$1} ${HEIGHT}`,
				"aria-hidden": "true",
				children: [a("line", {
					class: "axis",
					x1: "0",
					x2: WIDTH$1,
					y1: y(0),
					y2: y(0)
				}), lines.map(({ column, points }) => a("g", {
					class: column,
					children: [a("polyline", { points: points.map(({ n, z }) => `${x(n)},${y(z)}`).join(" ") }), points.map(({ n, z }) => a("circle", {
						cx: x(n),
						cy: y(z),
						r: "5",
						onClick: () => onPick(all[n].id)
					}, n))]
				}, column))]
			}),
			a("div", {
				class: "scroll",
				children: a("table", {
					class: "data",
					children: [
						a("caption", {
							class: "vh",
							children: [
								"Mean reading of ",
								name,
								" in standard deviations, by turn and column"
							]
						}),
						a("thead", { children: a("tr", { children: [a("th", {
							scope: "col",
							children: "Turn"
						}), columns.map((column) => a("th", {
							scope: "col",
							class: `number key ${column}`,
							children: TITLES[column]
						}, column))] }) }),
						a("tbody", { children: all.map((turn, n) => a("tr", { children: [a("th", {
							scope: "row",
							children: a("button", {
								type: "button",
								class: "link",
								onClick: () => onPick(turn.id),
								children: [
									n + 1,
									": ",
									turn.user.slice(0, 40)
								]
							})
						}), columns.map((column) => {
							const z = meanReading(turn.id, column, name);
							return a("td", {
								class: "number",
								children: z === null ? "–" : signed(z)
							}, column);
						})] }, turn.id)) })
					]
				})
			})
		]
	});
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
	return actsOf.value === null ? null : a(Drawer, { id: actsOf.value }, actsOf.value);
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
	return a(Dialog, {
		title: `Where it acts: ${name}`,
		wide: true,
		onClose: () => actsOf.value = null,
		children: a("div", {
			class: "stack",
			children: [
				a("div", {
					class: "row",
					children: [
						a("label", {
							class: "check",
							children: ["Answer", a("select", {
								value: column.value,
								onChange: (event) => column.value = event.currentTarget.value,
								children: columns.map((each) => a("option", {
									value: each,
									children: TITLES[each]
								}, each))
							})]
						}),
						a("label", {
							class: "check",
							children: ["Turn", a("select", {
								value: id,
								onChange: (event) => actsOf.value = Number(event.currentTarget.value),
								children: turns.value.map((each, n) => a("option", {
									value: each.id,
									children: n + 1
								}, each.id))
							})]
						}),
						a("label", {
							class: "check",
							children: [a("input", {
								type: "checkbox",
								checked: everything.value,
								onChange: (event) => everything.value = event.currentTarget.checked
							}), "the question and signs too"]
						})
					]
				}),
				error.value !== null && a(Problem, { error: error.value }),
				!reading.value && error.value === null && a("p", {
					class: "soft",
					children: "Reading…"
				}),
				reading.value && answer && a(Grid, {
					reading: reading.value,
					text: textOf(answer),
					everything: everything.value
				}),
				a(ReadingsByTurn, {
					name,
					onPick: (turnId) => {
						actsOf.value = null;
						document.getElementById(`turn-${turnId}`)?.scrollIntoView({ block: "start" });
					}
				})
			]
		})
	});
}
function Grid({ reading, text, everything }) {
	const table = T(null);
	const at = useSignal({
		row: 0,
		column: 0
	});
	const vector = reading.vectors[0];
	if (!vector?.z) return a("p", { children: "This vector has no statistics of neutral texts, so its readings have no unit." });
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
	return a($, { children: [
		a("p", {
			class: "hint",
			children: [
				"Standard deviations from neutral texts, by layer and word, read without steering; colours end at ±",
				STRONGEST$1,
				". Layers with a dot are those that the reading is made of. Move with the arrow keys."
			]
		}),
		a("div", {
			class: "scroll grid-box",
			children: a("table", {
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
				},
				children: [
					a("caption", {
						class: "vh",
						children: "Readings by layer and word"
					}),
					a("thead", { children: a("tr", { children: [a("th", {
						scope: "col",
						children: "layer"
					}), tokens.map((n) => a("th", {
						scope: "col",
						children: reading.pieces[n].trim() || JSON.stringify(reading.pieces[n])
					}, n))] }) }),
					a("tbody", { children: layers.map(({ layer, z }, row) => a("tr", { children: [a("th", {
						scope: "row",
						children: [layer, reads.has(layer) ? " •" : ""]
					}), tokens.map((n, column) => {
						const value = z[n] ?? 0;
						return a("td", {
							tabIndex: row === current.row && column === current.column ? 0 : -1,
							"data-at": `${row}/${column}`,
							class: value > 0 ? "towards-plus" : "towards-minus",
							style: { "--a": Math.min(Math.abs(value) / STRONGEST$1, 1).toFixed(2) },
							onFocus: () => at.value = {
								row,
								column
							},
							children: signed(value, 1)
						}, n);
					})] }, layer)) })
				]
			})
		}),
		a("p", {
			class: "number",
			role: "status",
			children: [
				"Layer ",
				chosen.layer,
				", “",
				piece?.trim(),
				"”: ",
				signed(chosen.z[tokens[current.column]] ?? 0, 2),
				" z"
			]
		})
	] });
}
function firstOf(pieces, text) {
	const start = pieces.join("").lastIndexOf(text.trim());
	if (start < 0) return 0;
	let length = 0;
	return Math.max(0, pieces.findIndex((piece) => (length += piece.length) > start));
}
// src/try/add-vector.tsx
var addOpen = y$1(false);
var GLYPHS = {
	works: "●",
	"one way only": "◐",
	weak: "○",
	"does not work": "✕"
};
var ORDER = Object.keys(GLYPHS);
var wanted = y$1("");
var untrained = y$1([]);
function AddVector() {
	if (!addOpen.value) return null;
	return a(Chooser, {});
}
function Chooser() {
	const close = () => addOpen.value = false;
	A$1(() => {
		wanted.value = "";
		api.GET("/v1/behaviours").then((answer) => untrained.value = unwrap(answer).data.filter((each) => !each.trained), () => void 0);
	}, []);
	const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
	const fits = (...texts) => words.every((word) => texts.join(" ").toLowerCase().includes(word));
	const list = vectors.value.filter((each) => fits(each.name, each.poles?.["+"], each.poles?.["-"], each.verdict ?? "")).toSorted((a, b) => rank(a) - rank(b) || (b.times_prompt ?? 0) - (a.times_prompt ?? 0) || a.name.localeCompare(b.name));
	const others = untrained.value.filter((each) => !vectorOf.value.has(each.name) && fits(each.name, each.positive, each.negative));
	const broken = Object.entries(unusable.value).filter(([name]) => fits(name));
	const model = info.value?.model.name ?? "this model";
	return a(Dialog, {
		title: "Add a behaviour",
		onClose: close,
		children: a("div", {
			class: "stack",
			children: [
				a("div", {
					class: "field",
					children: [a("label", {
						for: "find-vector",
						children: "Search"
					}), a("input", {
						id: "find-vector",
						type: "search",
						autofocus: true,
						value: wanted.value,
						onInput: (event) => wanted.value = event.currentTarget.value
					})]
				}),
				a("p", {
					class: "hint",
					role: "status",
					children: [
						list.length,
						" of ",
						vectors.value.length,
						" behaviours of ",
						model,
						", best first"
					]
				}),
				a("ul", {
					class: "choices",
					children: list.map((vector) => a("li", { children: a("button", {
						type: "button",
						disabled: dials.value.some((dial) => dial.name === vector.name && dial.text === void 0),
						onClick: () => {
							add(vector.name);
							close();
						},
						children: [a("span", { children: [
							a("b", { children: vector.name }),
							" ",
							a("span", {
								class: "soft",
								children: vector.poles ? `− ${vector.poles["-"]} … ${vector.poles["+"]} +` : "a vector of yours"
							})
						] }), a("span", {
							class: "small soft",
							children: facts(vector)
						})]
					}) }, vector.name))
				}),
				others.length > 0 && a("section", {
					class: "stack tight",
					children: [a("h3", { children: "Not trained for this model" }), a("ul", {
						class: "plain-list",
						children: others.map(({ name }) => a("li", { children: [
							name,
							": ",
							a("a", {
								href: `#make/${encodeURIComponent(name)}`,
								onClick: close,
								children: "train it, a few minutes"
							})
						] }, name))
					})]
				}),
				broken.length > 0 && a("section", {
					class: "stack tight",
					children: [a("h3", { children: "Files that cannot be used" }), a("ul", {
						class: "plain-list small",
						children: broken.map(([name, why]) => a("li", { children: [
							a("b", { children: name }),
							": ",
							why,
							" ",
							a("a", {
								href: `#make/${encodeURIComponent(name)}`,
								onClick: close,
								children: "Train it for this model"
							})
						] }, name))
					})]
				}),
				!list.length && !others.length && a("p", { children: ["Nothing is called that. ", a("a", {
					href: "#make",
					onClick: close,
					children: "Make it"
				})] })
			]
		})
	});
}
function rank(vector) {
	const at = ORDER.indexOf(vector.verdict ?? "");
	return at < 0 ? ORDER.length - 1.5 : at;
}
function facts(vector) {
	const safe = safeOf(vector);
	return [
		vector.verdict ? `${GLYPHS[vector.verdict] ?? "·"} ${vector.verdict}` : "· not evaluated",
		vector.times_prompt !== null && `${vector.times_prompt.toFixed(1)} × a prompt`,
		safe ? `safe from ${signed(safe.low, 3)} to ${signed(safe.high, 3)}` : "safe range not measured"
	].filter(Boolean).join(" · ");
}
// src/try/by-turn.tsx
function ByTurn() {
	const all = turns.value;
	if (all.length < 2) return null;
	const names = [...new Set(all.flatMap((turn) => turn.dials).concat(dials.value).filter((dial) => dial.text === void 0).map((dial) => dial.name))];
	const changed = all.findIndex((turn) => shown$2.value.some((column) => isStale(turn, column)));
	return a("details", {
		class: "by-turn",
		children: [
			a("summary", { children: "Dials by turn" }),
			a("div", {
				class: "scroll",
				children: a("table", { children: [a("thead", { children: a("tr", { children: [a("td", {}), all.map((turn, n) => a("th", {
					scope: "col",
					class: "small",
					children: ["turn ", n + 1]
				}, turn.id))] }) }), a("tbody", { children: names.map((name) => a("tr", { children: [a("th", {
					scope: "row",
					class: "small",
					children: name
				}), all.map((turn, n) => a("td", { children: a(Cell, {
					turn,
					name,
					number: n + 1,
					last: n === all.length - 1
				}) }, turn.id))] }, name)) })] })
			}),
			changed >= 0 && a("button", {
				type: "button",
				onClick: () => void rerun(all[changed], changed === all.length - 1),
				children: ["Answer again from turn ", changed + 1]
			})
		]
	});
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
	return a("input", {
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
	return a("section", {
		class: "budget stack tight",
		"aria-labelledby": "budget",
		children: [
			a("h2", {
				id: "budget",
				children: ["Budget: ", says]
			}),
			a("div", {
				class: "meter",
				role: "img",
				"aria-label": `${says}; from 1.1 nat on, text breaks`,
				children: [known.map((term, n) => a("span", {
					class: `part-${n % 3}`,
					style: { width: at(term.kl * scale) }
				}, term.text)), LEVELS.map(({ upto }) => a("i", { style: { left: at(upto) } }, upto))]
			}),
			a("div", {
				class: "ticks tiny soft",
				"aria-hidden": "true",
				children: [LEVELS.map(({ upto }) => a("span", {
					style: { left: at(upto) },
					children: upto
				}, upto)), WORDS.map(({ word, middle }) => a("b", {
					style: { left: at(middle) },
					children: word
				}, word))]
			}),
			terms.length > 1 && a("p", {
				class: "small",
				children: [terms.map((term) => `${term.vector} ${term.kl === null ? "?" : term.kl.toFixed(2)}`).join(" + "), together != null && ` = ${together.toFixed(2)} together`]
			}),
			pairs(now).map((words) => a("p", {
				class: "small soft",
				children: words
			}, words)),
			now.warnings.map((warning) => a("p", {
				class: "warn small",
				children: ["▲ ", sentence$1(warning)]
			}, warning))
		]
	});
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
	return a("form", {
		class: "field",
		onSubmit: (event) => {
			event.preventDefault();
			put(event.currentTarget.elements.namedItem("steering"));
		},
		children: [
			a("label", {
				for: "steering",
				children: "As text"
			}),
			a("span", {
				class: "row nowrap",
				children: [a("input", {
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
				}), typed.value !== null && a("button", { children: "Set" })]
			}),
			mistake.value && a("div", {
				id: "steering-mistake",
				class: "small",
				role: "alert",
				children: [
					column && a("pre", {
						class: "caret",
						"aria-hidden": "true",
						children: [
							typed.value,
							"\n",
							" ".repeat(column - 1),
							"^"
						]
					}),
					a("p", {
						class: "warn",
						children: ["▲ ", sentence$1(what ?? "")]
					}),
					fix && a("p", { children: sentence$1(fix.split("\n")[0]) })
				]
			})
		]
	});
}
// src/try/dial.tsx
var PAGE = .25;
function Dial({ dial, at }) {
	const vector = vectorOf.value.get(dial.name);
	if (dial.text !== void 0) return a(FixedTerm, {
		text: dial.text,
		at,
		on: dial.on
	});
	if (!vector && info.value) return a(Missing, {
		name: dial.name,
		at
	});
	const safe = safeOf(vector);
	const id = `dial-${at}`;
	const plus = vector?.poles?.["+"] ?? dial.name;
	const minus = vector?.poles?.["-"] ?? "the opposite";
	const inside = isInside(dial.strength, safe);
	const turn$1 = (strength) => turn(at, { strength: tidy(Math.min(Math.max(strength, -MAX_STRENGTH), MAX_STRENGTH)) });
	const towards = dial.strength === 0 ? "off" : `${signed(dial.strength, 3)} towards ${dial.strength > 0 ? plus : minus}`;
	const kl = klOf(dial);
	const spends = kl === null ? "" : nats(kl);
	const limits = safe && `${signed(safe.low, 3)} to ${signed(safe.high, 3)}`;
	const beyond = inside ? "" : `outside of its safe range, ${limits}: ${reason(safe)}`;
	return a("section", {
		class: "dial card",
		"aria-labelledby": `${id}-name`,
		"data-dial": dial.name,
		children: [
			a("div", {
				class: "row head",
				children: [
					a("h2", {
						id: `${id}-name`,
						children: dial.name
					}),
					vector?.verdict && a("span", {
						class: "tag",
						title: "Verdict of its card",
						children: vector.verdict
					}),
					a("label", {
						class: "check end",
						children: [a("input", {
							type: "checkbox",
							checked: dial.on,
							"aria-label": `${dial.name} is on`,
							onChange: (event) => turn(at, { on: event.currentTarget.checked })
						}), "on"]
					}),
					a("button", {
						type: "button",
						class: "quiet icon",
						"aria-label": `Remove ${dial.name}`,
						title: "Remove",
						onClick: () => remove(at),
						children: "✕"
					})
				]
			}),
			a("div", {
				class: dial.on ? "range" : "range off",
				children: [a(Track, {
					safe,
					strength: dial.strength
				}), a("input", {
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
				})]
			}),
			a("div", {
				class: "poles small",
				children: [
					a("span", {
						class: "minus",
						children: ["− ", minus]
					}),
					a("span", {
						class: "soft",
						"aria-hidden": "true",
						children: "0"
					}),
					a("span", {
						class: "plus",
						children: [plus, " +"]
					})
				]
			}),
			a("div", {
				class: "row says",
				children: [a("input", {
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
				}), a("span", {
					class: "number small grow",
					children: [dial.on ? spends || "…" : "off", inside && a("span", {
						class: "soft",
						children: [" · ", safe ? `safe from ${limits}` : "safe range not measured"]
					})]
				})]
			}),
			beyond && a("p", {
				class: "warn small",
				children: ["▲ ", sentence(beyond)]
			}),
			a("div", {
				class: "row",
				children: [a("button", {
					type: "button",
					class: "small",
					onClick: () => openBreaks(dial.name),
					children: ["Find where it breaks", a("span", {
						class: "vh",
						children: [": ", dial.name]
					})]
				}), a("button", {
					type: "button",
					class: "quiet small",
					onClick: () => openCard(dial.name),
					children: ["Card", a("span", {
						class: "vh",
						children: [" of ", dial.name]
					})]
				})]
			})
		]
	});
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
	return a("div", {
		class: "track",
		"aria-hidden": "true",
		children: [
			a("i", {
				class: "safe",
				style: {
					left: place(range.low),
					right: `calc(100% - ${place(range.high)})`
				}
			}),
			a("i", {
				class: strength < 0 ? "turned minus" : "turned",
				style: {
					left: place(from),
					right: `calc(100% - ${place(to)})`
				}
			}),
			a("i", { class: "zero" })
		]
	});
}
function FixedTerm({ text, at, on }) {
	return a("section", {
		class: "dial card fixed",
		"aria-label": `Term ${text}`,
		children: [a("div", {
			class: "row head",
			children: [
				a("code", {
					class: "grow",
					children: text
				}),
				a("label", {
					class: "check",
					children: [a("input", {
						type: "checkbox",
						checked: on,
						"aria-label": `${text} is on`,
						onChange: (event) => turn(at, { on: event.currentTarget.checked })
					}), "on"]
				}),
				a("button", {
					type: "button",
					class: "quiet icon",
					"aria-label": `Remove ${text}`,
					title: "Remove",
					onClick: () => remove(at),
					children: "✕"
				})
			]
		}), a("p", {
			class: "hint",
			children: "Only its text form can change it."
		})]
	});
}
function Missing({ name, at }) {
	return a("section", {
		class: "dial card",
		"aria-label": `Dial ${name}, which cannot be turned`,
		children: [a("div", {
			class: "row head",
			children: [a("h2", {
				class: "grow",
				children: name
			}), a("button", {
				type: "button",
				class: "quiet icon",
				"aria-label": `Remove ${name}`,
				title: "Remove",
				onClick: () => remove(at),
				children: "✕"
			})]
		}), a("p", {
			class: "small",
			children: [
				a("span", {
					class: "warn",
					children: "▲ Not used: "
				}),
				unusable.value[name] ?? "there is no vector of this name for this model.",
				" ",
				a("a", {
					href: `#make/${encodeURIComponent(name)}`,
					children: "Train it"
				})
			]
		})]
	});
}
// src/try/save-preset.tsx
var presetOpen = y$1(false);
var NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]*";
function SavePreset() {
	return presetOpen.value ? a(Form, {}) : null;
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
				const before = await api.GET("/v1/presets/{name}", { params: { path } });
				exists.value = before.response.ok;
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
			refresh();
		} catch (problem) {
			error.value = problem;
		}
	};
	const needsKey = error.value instanceof ApiError && [401, 403].includes(error.value.status);
	return a(Dialog, {
		title: "Save as preset",
		onClose: close,
		children: fixed ? a("p", { children: "The presets of this server cannot be edited here. Edit them where it is started." }) : saved.value ? a("div", {
			class: "stack",
			children: [a("p", {
				role: "status",
				children: ["Saved. Any client of this server can use it as its model: ", a("code", { children: saved.value })]
			}), a("p", { children: a("button", {
				type: "button",
				class: "go",
				onClick: close,
				children: "Done"
			}) })]
		}) : a("form", {
			class: "stack",
			onSubmit: (event) => {
				event.preventDefault();
				save(false);
			},
			children: [
				a("p", { children: ["Steering: ", a("code", { children: text.value })] }),
				a("div", {
					class: "field",
					children: [
						a("label", {
							for: "preset-name",
							children: "Name"
						}),
						a("input", {
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
						}),
						a("span", {
							class: "hint",
							children: "Letters, digits, dots, dashes and underscores"
						})
					]
				}),
				a("div", {
					class: "field",
					children: [a("label", {
						for: "preset-system",
						children: "Opening of the system prompt, if it is to have one"
					}), a("textarea", {
						id: "preset-system",
						rows: 2,
						value: system.value,
						onInput: (event) => system.value = event.currentTarget.value
					})]
				}),
				a("label", {
					class: "check",
					children: [a("input", {
						type: "checkbox",
						checked: withSampling.value,
						onChange: (event) => withSampling.value = event.currentTarget.checked
					}), "With length, temperature and seed as they are now"]
				}),
				needsKey && a("div", {
					class: "field",
					children: [a("label", {
						for: "preset-key",
						children: "Key that may manage the server; it is kept until you close the page"
					}), a("input", {
						id: "preset-key",
						type: "password",
						autocomplete: "off",
						value: key.value,
						onInput: (event) => key.value = event.currentTarget.value
					})]
				}),
				error.value !== null && a(Problem, { error: error.value }),
				exists.value && a("div", {
					class: "notice bad",
					role: "alert",
					children: a("p", { children: ["There is a preset of this name. ", a("button", {
						type: "button",
						onClick: () => void save(true),
						children: "Replace it"
					})] })
				}),
				a("p", {
					class: "row",
					children: [a("button", {
						class: "go",
						children: "Save"
					}), a("button", {
						type: "button",
						onClick: close,
						children: "Cancel"
					})]
				})
			]
		})
	});
}
// src/try/rail.tsx
var sheetOpen = y$1(false);
function Rail() {
	const none = info.value !== null && vectors.value.length === 0;
	return a("aside", {
		id: "dials",
		class: sheetOpen.value ? "rail open" : "rail",
		"aria-label": "Dials",
		children: [
			a("div", {
				class: "row",
				children: [a("h2", {
					class: "grow",
					children: "Dials"
				}), a("button", {
					type: "button",
					class: "sheet-closer",
					onClick: () => sheetOpen.value = false,
					children: ["Close", a("span", {
						class: "vh",
						children: " the dials"
					})]
				})]
			}),
			none && a("div", {
				class: "notice",
				children: a("p", { children: [
					"There are no vectors for ",
					info.value.model.name,
					" yet. ",
					a("a", {
						href: "#make",
						children: "Train one"
					}),
					": a few minutes."
				] })
			}),
			dials.value.map((dial, at) => a(Dial, {
				dial,
				at
			}, `${dial.name}${dial.text ?? ""}`)),
			a("button", {
				type: "button",
				onClick: () => addOpen.value = true,
				children: "+ Add a behaviour"
			}),
			a(Budget, {}),
			a(TextForm, {}),
			a("div", {
				class: "row",
				children: [a("button", {
					type: "button",
					onClick: () => presetOpen.value = true,
					children: "Save as preset"
				}), a("button", {
					type: "button",
					"aria-keyshortcuts": "c",
					title: "C",
					onClick: openCode,
					children: "Use in my app"
				})]
			})
		]
	});
}
// src/try/composer.tsx
function Composer() {
	const last = turns.value.at(-1);
	const send = () => {
		const text = draft$1.value.trim();
		if (!text) return;
		draft$1.value = "";
		ask(text);
	};
	return a("form", {
		class: "composer",
		onSubmit: (event) => {
			event.preventDefault();
			send();
		},
		children: [
			a("button", {
				type: "button",
				class: "sheet-opener",
				"aria-expanded": sheetOpen.value,
				"aria-controls": "dials",
				onClick: () => sheetOpen.value = !sheetOpen.value,
				children: [dials.value.map((dial, n) => {
					const kl = klOf(dial);
					return a("span", {
						class: "number",
						children: [dial.text ?? `${dial.name} ${dial.on ? signed(dial.strength, 3) : "off"}`, kl ? ` · ${kl.toFixed(2)} nat` : ""]
					}, n);
				}), a("b", { children: "Dials" })]
			}),
			stale.value && last && a("p", {
				class: "stale small",
				children: [
					"The answers are of ",
					a("code", { children: mixText(last.dials) }),
					", the dials are at ",
					a("code", { children: text.value }),
					"."
				]
			}),
			a("label", {
				for: "message",
				class: "vh",
				children: "Your message"
			}),
			a("textarea", {
				id: "message",
				rows: 1,
				placeholder: turns.value.length ? "Ask the same question with and without the dials…" : "How was your day?",
				value: draft$1.value,
				onInput: (event) => draft$1.value = event.currentTarget.value,
				onKeyDown: (event) => {
					if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
					event.preventDefault();
					send();
				}
			}),
			busy.value && a("button", {
				type: "button",
				onClick: stop,
				title: "Esc",
				children: "Stop"
			}),
			last && !busy.value && a("button", {
				type: "button",
				class: (stale.value || last.example) && !draft$1.value.trim() ? "go" : "",
				onClick: again,
				"aria-keyshortcuts": "r",
				title: "R",
				children: last.example ? "Answer" : "Answer again"
			}),
			a("button", {
				class: draft$1.value.trim() ? "go" : "",
				disabled: !draft$1.value.trim(),
				children: "Send"
			})
		]
	});
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
	return a("div", {
		class: "toolbar stack tight",
		children: [a("div", {
			class: "row",
			children: [
				a("fieldset", {
					class: "row",
					children: [
						a("legend", {
							class: "vh",
							children: "Beside the steered answer"
						}),
						a("span", {
							class: "soft small",
							"aria-hidden": "true",
							children: "Beside it"
						}),
						BESIDE.map(([column, label]) => a("label", {
							class: "check small",
							children: [a("input", {
								type: "checkbox",
								checked: shown$2.value.includes(column),
								onChange: (event) => setShown(column, event.currentTarget.checked)
							}), label]
						}, column))
					]
				}),
				a(ColourBy, {}),
				a("button", {
					type: "button",
					class: "small",
					disabled: !turns.value.length || !colourBy.value,
					onClick: () => actsOf.value = turns.value.at(-1).id,
					children: "Where it acts"
				}),
				a(More, {})
			]
		}), shown$2.value.includes("prompt") && a(SystemPrompt, {})]
	});
}
function ColourBy() {
	const names = [...new Set([...dials.value.map((dial) => dial.name), colourBy.value].filter(Boolean))];
	const others = vectors.value.map((vector) => vector.name).filter((name) => !names.includes(name));
	return a("label", {
		class: "check small",
		children: ["Colour words by", a("select", {
			value: colourBy.value,
			onChange: (event) => colourBy.value = event.currentTarget.value,
			children: [
				a("option", {
					value: "",
					children: "nothing"
				}),
				names.map((name) => a("option", { children: name }, name)),
				others.length > 0 && a("optgroup", {
					label: "Other vectors",
					children: others.map((name) => a("option", { children: name }, name))
				})
			]
		})]
	});
}
function More() {
	const set = (part) => sampling.value = {
		...sampling.value,
		...part
	};
	const most = info.value?.limits.answer_tokens ?? 4096;
	return a("details", {
		class: "more",
		children: [a("summary", {
			class: "small",
			children: "More"
		}), a("div", {
			class: "card stack",
			children: [
				a(NumberField, {
					label: "Length in tokens, at most",
					min: 1,
					max: most,
					step: 1,
					value: sampling.value.maxTokens,
					onSet: (maxTokens) => set({ maxTokens })
				}),
				a(NumberField, {
					label: "Temperature; 0 is greedy",
					min: 0,
					max: 2,
					step: .1,
					value: sampling.value.temperature,
					onSet: (temperature) => set({ temperature })
				}),
				a(NumberField, {
					label: "Seed",
					min: 0,
					max: 2 ** 31,
					step: 1,
					value: sampling.value.seed,
					onSet: (seed) => set({ seed })
				}),
				a("div", {
					class: "row",
					children: [
						a("button", {
							type: "button",
							onClick: () => save("conversation.md", "text/markdown", asMarkdown()),
							children: "Save as Markdown"
						}),
						a("button", {
							type: "button",
							onClick: () => save("conversation.json", "application/json", asJson()),
							children: "Save as JSON"
						}),
						a("button", {
							type: "button",
							onClick: () => void navigator.clipboard?.writeText(link()).then(() => announce("Link copied")),
							children: "Copy link"
						})
					]
				}),
				a("button", {
					type: "button",
					onClick: forget,
					children: "New conversation"
				})
			]
		})]
	});
}
function NumberField({ label, min, max, step, value, onSet }) {
	return a("label", {
		class: "check small",
		children: [a("input", {
			type: "number",
			min,
			max,
			step,
			value,
			onChange: (event) => {
				const given = event.currentTarget.valueAsNumber;
				if (Number.isFinite(given)) onSet(Math.min(Math.max(given, min), max));
				event.currentTarget.value = String(sampling.peek() && value);
			}
		}), label]
	});
}
var added = y$1(null);
function SystemPrompt() {
	const written = promptText.value;
	A$1(() => {
		const timer = setTimeout(() => void countTokens(written), 400);
		return () => clearTimeout(timer);
	}, [written, info.value]);
	return a("div", {
		class: "row",
		children: [
			a("label", {
				for: "system",
				class: "small",
				children: "System prompt"
			}),
			a("input", {
				id: "system",
				class: "grow",
				value: systemPrompt.value || written,
				"aria-describedby": "system-tokens",
				onChange: (event) => systemPrompt.value = event.currentTarget.value.trim()
			}),
			a("span", {
				id: "system-tokens",
				class: "small soft number",
				children: added.value === null ? "" : `${added.value < 0 ? "−" : "+"}${Math.abs(added.value)} tokens in every request`
			})
		]
	});
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
function Words({ tokens, colour, label }) {
	const [at, setAt] = d$2(null);
	const box = T(null);
	const spans = w$2(() => tokens.map((token, n) => a(Word, {
		token,
		colour
	}, n)), [tokens, colour]);
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
	return a("div", {
		class: "answer-text",
		children: [
			a("div", {
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
				},
				children: spans
			}),
			a("div", {
				class: "vh",
				role: "status",
				children: current && spoken(current)
			}),
			current && a(Details, {
				token: current,
				style: place$1(box.current, at)
			})
		]
	});
}
function Word({ token, colour }) {
	const z = token.readings[colour] ?? 0;
	const kind = token.thought ? "thought" : Math.abs(z) < LEAST ? "" : z > 0 ? "towards-plus" : "towards-minus";
	const style = kind.startsWith("towards") ? { "--a": Math.min(Math.abs(z) / STRONGEST, 1).toFixed(2) } : void 0;
	return a("span", {
		class: kind || void 0,
		style,
		children: token.text
	});
}
function place$1(box, at) {
	const span = box?.children[at];
	if (!box || !span) return {
		left: "0",
		top: "100%"
	};
	return {
		left: `${Math.max(0, Math.min(span.offsetLeft, box.clientWidth - WIDTH))}px`,
		top: `${span.offsetTop + span.offsetHeight + 4}px`
	};
}
function Details({ token, style }) {
	return a("div", {
		class: "details card",
		style,
		"aria-hidden": "true",
		children: [
			a("p", { children: [a("code", { children: JSON.stringify(token.text) }), token.logprob !== null && ` ${percent(token.logprob)} likely`] }),
			Object.entries(token.readings).map(([name, z]) => a("p", {
				class: "number",
				children: [
					"reads ",
					signed(z, 1),
					" z ",
					name
				]
			}, name)),
			token.others.length > 0 && a("table", { children: [a("caption", {
				class: "soft",
				children: "Most likely here"
			}), a("tbody", { children: token.others.map((other, n) => a("tr", { children: [a("td", { children: a("code", { children: JSON.stringify(other.text) }) }), a("td", {
				class: "number",
				children: percent(other.logprob)
			})] }, n)) })] })
		]
	});
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
	return a("div", {
		role: "group",
		class: `answer ${column}`,
		"aria-label": title,
		children: [a("header", {
			class: "row",
			children: [
				a("h3", { children: title }),
				answer && a("span", {
					class: "soft small steering",
					children: column === "prompt" ? `“${answer.system ?? ""}”` : answer.steering === "none" ? "" : answer.steering
				}),
				answer?.status === "streaming" && a(Rate, { answer })
			]
		}), answer ? a(Shown, {
			turn,
			column,
			answer
		}) : a(NotAnswered, {
			turn,
			column
		})]
	});
}
function Rate({ answer }) {
	return a("span", {
		class: "row end small soft number",
		children: [answer.seconds > 0 && `${(answer.tokens.length / answer.seconds).toFixed(0)} tokens/s`, a("button", {
			type: "button",
			class: "small",
			onClick: stop,
			children: "Stop"
		})]
	});
}
function NotAnswered({ turn, column }) {
	return a("p", { children: a("button", {
		type: "button",
		onClick: () => void answerColumn(turn.id, column),
		children: "Answer here"
	}) });
}
function Shown({ turn, column, answer }) {
	const { status, tokens } = answer;
	const working = status === "waiting" || status === "streaming";
	const text = textOf(answer);
	return a($, { children: [
		a(Seeds, {
			turn,
			column
		}),
		tokens.length > 0 && a(Words, {
			tokens,
			colour: colourBy.value,
			label: `${TITLES[column]}, turn ${turn.id}`
		}),
		status === "waiting" && (answer.retryAt ? a(Queue, { answer }) : tokens.length === 0 && a("p", {
			class: "soft",
			children: "Waiting for the first word…"
		})),
		!working && !text.trim() && status === "done" && a("p", {
			class: "soft",
			children: "(no answer)"
		}),
		a(Trouble, {
			turn,
			column,
			answer
		}),
		!working && a(Receipt, {
			answer,
			column
		}),
		text && distinctShare(text) < .75 && a(Loops, {
			share: distinctShare(text),
			column
		}),
		!working && isStale(turn, column) && a("p", {
			class: "small soft",
			children: ["answered ", column === "prompt" ? "with another prompt" : `at ${answer.steering}`]
		})
	] });
}
function Seeds({ turn, column }) {
	const answers = turn.answers[column] ?? [];
	if (answers.length < 2) return null;
	const picked = turn.picked[column] ?? 0;
	return a("div", {
		class: "row seeds",
		role: "group",
		"aria-label": `${TITLES[column]}: seeds`,
		children: answers.map((answer, n) => a("button", {
			type: "button",
			class: "small",
			"aria-pressed": n === picked,
			title: `seed ${answer.seed}, temperature ${answer.temperature}`,
			onClick: () => pick(turn.id, column, n),
			children: [
				"seed ",
				answer.seed,
				answer.temperature === 0 ? ", greedy" : ""
			]
		}, n))
	});
}
function Queue({ answer }) {
	const left = useSignal(0);
	A$1(() => {
		const count = () => left.value = Math.max(0, Math.ceil((answer.retryAt - Date.now()) / 1e3));
		count();
		const timer = setInterval(count, 500);
		return () => clearInterval(timer);
	}, [answer.retryAt]);
	return a("p", {
		class: "soft",
		children: [
			answer.error?.what,
			"; asked again in ",
			left.value,
			" s"
		]
	});
}
function Trouble({ turn, column, answer }) {
	const { status, error, finish } = answer;
	const text = textOf(answer);
	const retry = a("button", {
		type: "button",
		onClick: () => void answerColumn(turn.id, column),
		children: "Answer again"
	});
	const on = text.trim() && a("button", {
		type: "button",
		onClick: () => void goOn(turn.id, column),
		children: "Go on"
	});
	if (status === "stopped") return a("p", {
		class: "row small",
		children: [
			a("span", {
				class: "soft",
				children: "Stopped."
			}),
			on,
			retry
		]
	});
	if (status === "done" && finish === "length") return a("p", {
		class: "row small",
		children: [a("span", {
			class: "soft",
			children: [
				"Cut at ",
				answer.tokens.length,
				" tokens."
			]
		}), on]
	});
	if (!error || status === "waiting" || status === "streaming" || status === "done") return null;
	const full = /context window/.test(`${error.what} ${error.fix}`);
	const shorter = Math.floor(sampling.value.maxTokens / 2);
	return a(Problem, {
		error,
		children: [
			on,
			retry,
			full && a("button", {
				type: "button",
				onClick: () => {
					forgetFirst();
					answerColumn(turn.id, column);
				},
				children: "Forget the first turn"
			}),
			(full || /memory/.test(error.what)) && shorter >= 16 && a("button", {
				type: "button",
				onClick: () => {
					sampling.value = {
						...sampling.value,
						maxTokens: shorter
					};
					answerColumn(turn.id, column);
				},
				children: [
					"At most ",
					shorter,
					" tokens"
				]
			})
		]
	});
}
function Receipt({ answer, column }) {
	const { receipt, tokens } = answer;
	const read = colourBy.value;
	const readings = tokens.filter((token) => read in token.readings).map((token) => token.readings[read]);
	const mean = readings.reduce((sum, z) => sum + z, 0) / readings.length;
	if (!tokens.length) return null;
	const steered = receipt !== null && receipt.tokens > 0;
	return a("p", {
		class: "receipt small",
		children: [
			steered && receipt.kl != null && a("span", { children: [
				a("b", { children: receipt.kl.toFixed(2) }),
				" nat, ",
				nats(receipt.kl).split(", ")[1] ?? "nothing"
			] }),
			steered && a("span", { children: [
				a("b", { children: receipt.layers.length }),
				" layers, ",
				a("b", { children: receipt.tokens }),
				" tokens steered"
			] }),
			receipt && !steered && a("span", { children: receipt.reason === "constrained" ? "not steered: it is constrained" : "not steered" }),
			!receipt && column !== "plain" && column !== "prompt" && a("span", { children: "no receipt: the answer did not end" }),
			readings.length > 0 && a("span", { children: [
				"reads ",
				a("b", { children: signed(mean, 1) }),
				" z ",
				read
			] }),
			answer.beyondSafe && a("span", {
				class: "warn",
				children: "▲ outside of the safe range"
			})
		]
	});
}
function Loops({ share, column }) {
	const softer = column === "steered" || column === "opposite" ? softerDial(column) : null;
	return a("p", {
		class: "row small",
		children: [a("span", {
			class: "warn",
			children: [
				"▲ 3-word groups repeat: ",
				Math.round(share * 100),
				" % distinct"
			]
		}), softer && a("button", {
			type: "button",
			class: "small",
			onClick: () => turn(softer.at, { strength: softer.strength }),
			children: [
				"Turn ",
				softer.name,
				" down to ",
				signed(softer.strength, 3)
			]
		})]
	});
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
	return a("article", {
		class: "turn",
		id: `turn-${turn.id}`,
		"aria-label": `Turn ${number}`,
		tabIndex: -1,
		children: [
			turn.example && a("p", {
				class: "hint",
				children: [
					"An example, which comes with trimtab: what this model has answered. Move the dial, then press ",
					a("b", { children: "Answer" }),
					"."
				]
			}),
			a("p", {
				class: "asked",
				children: [a("span", {
					class: "vh",
					children: "You: "
				}), turn.user]
			}),
			forgotten && a("p", {
				class: "hint",
				children: "The model is not given this turn any more."
			}),
			a("div", {
				class: "columns",
				style: { "--columns": columns.length },
				children: columns.map((column) => a(Column, {
					turn,
					column
				}, column))
			}),
			a("div", {
				class: "row",
				children: [
					stale && a("button", {
						type: "button",
						onClick: () => void rerunFrom(turn.id),
						children: "Answer again from here"
					}),
					last && !turn.example && !busy.value && columns.some((column) => pickedOf(turn, column)) && a("button", {
						type: "button",
						onClick: () => void moreSeeds(turn.id),
						children: ["Again ×3", a("span", {
							class: "vh",
							children: " with other seeds"
						})]
					}),
					last && !turn.example && sampling.value.temperature === 0 && a("span", {
						class: "hint",
						children: ["×3 uses other seeds at temperature ", .8]
					})
				]
			})
		]
	});
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
			else sheetOpen.value = false;
		}
	}
];
followAddress();
function Try() {
	A$1(() => {
		placeKeys.value = KEYS;
		return () => placeKeys.value = [];
	}, []);
	return a("div", {
		class: "try",
		children: [
			a(Rail, {}),
			a("main", {
				id: "main",
				tabIndex: -1,
				"aria-label": "Answers",
				children: [
					a("h1", {
						class: "vh",
						children: "Try"
					}),
					a(Toolbar, {}),
					a(ByTurn, {}),
					turns.value.map((turn, n) => a(Turn, {
						turn,
						number: n + 1
					}, turn.id)),
					a(Composer, {})
				]
			}),
			a(AddVector, {}),
			a(SavePreset, {}),
			a(WhereItActs, {})
		]
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
	return a($, { children: [
		a("a", {
			class: "skip",
			href: "#main",
			onClick: (event) => {
				event.preventDefault();
				document.getElementById("main")?.focus();
			},
			children: "Skip to the content"
		}),
		a("header", {
			class: "top",
			children: [
				a("span", {
					class: "brand",
					children: "trimtab"
				}),
				a("nav", {
					"aria-label": "Places",
					children: Object.keys(PLACES).map((name) => a("a", {
						href: `#${name}`,
						"aria-current": name === place.value ? "page" : void 0,
						children: PLACES[name].title
					}, name))
				}),
				a("span", {
					class: "model",
					children: model()
				}),
				a("button", {
					type: "button",
					class: "quiet icon keys",
					"aria-label": "Keys",
					title: "Keys",
					onClick: () => keysOpen.value = true,
					children: "?"
				})
			]
		}),
		offline.value && a("div", {
			class: "banner",
			role: "alert",
			children: [a("span", { children: "The server does not answer. Your text is kept." }), a("button", {
				type: "button",
				onClick: () => void refresh(),
				children: "Try again"
			})]
		}),
		needsKey.value && a(KeyField, {}),
		a(Page, {}),
		a(Breaks, {}),
		a(UseInApp, {}),
		a(Keys, {}),
		a("p", {
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
	return a("form", {
		class: "banner",
		onSubmit: (event) => {
			event.preventDefault();
			refresh();
		},
		children: [
			a("label", {
				for: "key",
				children: "This server needs a key. It is kept until you close the page."
			}),
			a("input", {
				id: "key",
				type: "password",
				autocomplete: "off",
				value: key.value,
				onInput: (event) => key.value = event.currentTarget.value
			}),
			a("button", {
				class: "go",
				children: "Use it"
			})
		]
	});
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
Q(a(App, {}), document.getElementById("app"));
