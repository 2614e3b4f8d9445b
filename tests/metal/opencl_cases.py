"""Kernels that Metal refuses and C++ takes, and kernels that Metal takes though they look odd. None of them has to run.

Each has the input x and the output y of many floats, the input `few` of three, which is in constant memory, and `one` without
axes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """The error is in `line` of the body, or of the header where `in_header`; its text has all of `words`."""

    body: str
    line: int
    words: tuple[str, ...]
    header: str = ""
    in_header: bool = False


TILE = "threadgroup float tile[32];\n"
OWN = "float own[4] = {};\n"

POINTERS = {
    "a device pointer to a threadgroup array": Wrong(
        f"{TILE}device float* p = tile;\ny[0] = p[0];", 2, ("device", "threadgroup")
    ),
    "a threadgroup pointer to a device buffer": Wrong("const threadgroup float* p = x + 4;\ny[0] = p[0];", 1, ("device",)),
    "a thread pointer to a device buffer": Wrong("const thread float* p = &x[1];\ny[0] = p[0];", 1, ("thread ", "device")),
    "a device pointer to an array of the thread": Wrong(f"{OWN}device float* p = own;\ny[0] = p[0];", 2, ("device", "thread ")),
    "a small input as device": Wrong("\nconst device float* p = few;\ny[0] = p[0];", 2, ("constant", "fewer than 8")),
    "a small input cast to device": Wrong("y[0] = ((const device float*)few)[0];", 1, ("constant", "fewer than 8")),
    "the address of a scalar input as device": Wrong("const device float* p = &one;\ny[0] = p[0];", 1, ("constant", "device")),
    "a small input to a function": Wrong(
        "y[0] = first(few);",
        1,
        ("`first`", "1st argument", "device", "constant"),
        "float first(const device float* p) { return *p; }",
    ),
    "a small input to a template": Wrong(
        "y[0] = first(few);", 1, ("`first`", "constant"), "template <class U>\nU first(const device U* p) { return *p; }"
    ),
    "an array of the thread to a function": Wrong(
        f"{OWN}fill(own, 4);\ny[0] = own[0];",
        2,
        ("`fill`", "threadgroup", "thread "),
        "void fill(threadgroup float* p, int n) { for (int i = 0; i < n; i++) p[i] = 0; }",
    ),
    "a reference to a device buffer": Wrong("threadgroup float& r = y[0];\nr = 1;", 1, ("threadgroup", "device")),
    "a device value where a thread's is changed": Wrong(
        "add(y[0], 1);", 1, ("`add`", "device", "thread "), "void add(thread float& a, float b) { a += b; }"
    ),
    "a template's reference": Wrong(
        "swap(y[0], y[1]);",
        1,
        ("`swap`", "device"),
        "template <class U>\nvoid swap(thread U& a, thread U& b) { U c = a; a = b; b = c; }",
    ),
    "a pointer that is returned as another": Wrong(
        "y[0] = *other(y);", 2, ("threadgroup", "device"), "\nthreadgroup float* other(device float* p) { return p; }", True
    ),
    "a pointer to a pointer": Wrong(
        "device float* p = y;\nthreadgroup float* thread* q = &p;\n**q = 1;", 2, ("device float*", "threadgroup float*")
    ),
    "a pointer that is assigned later": Wrong(f"const device float* p = x;\n{TILE}p = tile;\ny[0] = *p;", 3, ("threadgroup",)),
    "a member that is a pointer": Wrong(
        f"{TILE}View view = {{tile}};\ny[0] = view.data[0];",
        2,
        ("device", "threadgroup"),
        "struct View { device float* data; };",
    ),
    "a member that is assigned": Wrong(
        f"{TILE}View view;\nview.data = tile;\ny[0] = 1;", 3, ("device", "threadgroup"), "struct View { device float* data; };"
    ),
    "a constructor's argument": Wrong(
        "View view(y);\nview.data[0] = 1;",
        1,
        ("`View`", "threadgroup", "device"),
        "struct View { threadgroup float* data; View(threadgroup float* d) : data(d) {} };",
    ),
    "a member of a template's type": Wrong(
        "View<threadgroup float*> view = {y};\nview.data[0] = 1;",
        1,
        ("threadgroup", "device"),
        "template <class P> struct View { P data; };",
    ),
    "a function in a function": Wrong(
        f"{TILE}y[0] = outer(tile);",
        2,
        ("`inner`", "threadgroup", "device"),
        "template <class U> U inner(device U* p) { return *p; }\ntemplate <class P> float outer(P p) { return inner(p); }",
        True,
    ),
    "what a macro hides": Wrong(
        "GRAB(x);\ny[0] = q[0];", 1, ("threadgroup",), "#define GRAB(p) const threadgroup float* q = p"
    ),
    "a method for another memory": Wrong(
        "threadgroup Pair pairs[2];\ny[0] = pairs[0].sum();",
        2,
        ("method", "device", "threadgroup"),
        "struct Pair { float a, b; float sum() const device { return a + b; } };",
    ),
    "one pointer or another": Wrong(f"{TILE}auto p = x[0] > 0 ? &y[0] : tile;\n*p = 1;", 2, ("device", "threadgroup")),
    "pointers that are compared": Wrong(f"{TILE}y[0] = y == tile;", 2, ("device", "threadgroup")),
    "reinterpret_cast": Wrong("auto p = reinterpret_cast<threadgroup int*>(y);\n*p = 1;", 1, ("device", "threadgroup")),
    "static_cast": Wrong("auto p = static_cast<threadgroup float*>(y);\n*p = 1;", 1, ("device", "threadgroup")),
    "a matrix from the thread's memory": Wrong(
        "float own[64];\nsimdgroup_float8x8 m;\nsimdgroup_load(m, own, 8);", 3, ("`simdgroup_load`", "2nd", "thread ")
    ),
    "an atomic of the thread's": Wrong(
        "atomic_int n;\natomic_fetch_add_explicit(&n, 1, memory_order_relaxed);", 2, ("1st", "device or threadgroup")
    ),
    "a pointer of the template's type": Wrong("const device T* p = few;\ny[0] = p[0];", 1, ("constant", "device")),
    "an alias of a pointer": Wrong(f"using P = device float*;\n{TILE}P p = tile;\n*p = 1;", 3, ("device", "threadgroup")),
    "an alias of a type without a space": Wrong(
        "threadgroup real r[2];\nreal* p = r;\ny[0] = *p;", 2, ("`real*`",), "typedef float real;"
    ),
    "a member without a space": Wrong("View view;\ny[0] = 1;", 1, ("`float*`",), "struct View { float* data; };", True),
}

VARIABLES = {
    "constant memory that is written": Wrong("constant float* p = (constant float*)few;\np[0] = 1;", 2, ("constant", "read")),
    "a table that is written": Wrong("table[0] = 1;", 1, ("constant", "read"), "constant float table[2] = {1, 2};"),
    "a variable outside of all functions": Wrong("total += x[0];", 1, ("constant",), "float total = 0;", True),
    "a const outside of all functions": Wrong("y[0] = HALF;", 2, ("constant",), "\nconst float HALF = 0.5f;", True),
    "a static variable": Wrong("static int count = 0;\ny[0] = count++;", 1, ("static", "constant")),
    "a function's threadgroup variable": Wrong(
        "y[0] = f(x[0]);",
        2,
        ("threadgroup", "kernel"),
        "float f(float a) {\n  threadgroup float t[4]; t[0] = a; return t[0];\n}",
        True,
    ),
    "a threadgroup variable with a value": Wrong("threadgroup float t[2] = {1, 2};\ny[0] = t[0];", 1, ("threadgroup T x",)),
    "a device variable": Wrong("device float a = 1;\ny[0] = a;", 1, ("thread or threadgroup",)),
    "a parameter in threadgroup memory": Wrong(
        "y[0] = f(1);", 1, ("parameter",), "float f(threadgroup float a) { return a; }", True
    ),
    "threadgroup memory outside of all functions": Wrong("y[0] = t[0];", 1, ("kernel",), "threadgroup float t[4];", True),
}

WORDS = {
    "double": Wrong("\ndouble d = 1;\ny[0] = d;", 2, ("double",)),
    "an array of variable size": Wrong("int n = int(x[0]);\nfloat a[n];\ny[0] = a[0];", 2, ("size",)),
    "a pointer to a function": Wrong("\nauto g = &f;\ny[0] = g(1);", 2, ("functions",), "float f(float a) { return a; }"),
    "a virtual function": Wrong("A a;\ny[0] = a.f();", 1, ("virtual",), "struct A { virtual float f() { return 1; } };", True),
    "try": Wrong("try { y[0] = 1; } catch (...) {}", 1, ("try",)),
    "throw": Wrong("if (x[0] > 0) throw 1;\ny[0] = 1;", 1, ("throw",)),
    "dynamic_cast": Wrong(
        "B b;\nthread A* a = &b;\ny[0] = dynamic_cast<thread B*>(a)->a;",
        3,
        ("dynamic_cast",),
        "struct A { float a; };\nstruct B : A {};",
    ),
    "new": Wrong("thread float* p = new float[4];\ny[0] = p[0];", 1, ("new",)),
    "thread_local": Wrong("thread_local float a = 1;\ny[0] = a;", 1, ("thread_local",)),
}

WRONG = {**POINTERS, **VARIABLES, **WORDS}

RIGHT = {
    "pointers of every memory": (
        "",
        f"""{TILE}{OWN}
const device float* a = x; const constant float* b = few; threadgroup float* c = tile; thread float* d = own;
auto e = tile + 3; const auto& f = x[0]; auto g = few; thread float* thread* h = &d;
y[0] = a[0] + b[0] + c[0] + d[0] + e[0] + f + g[0] + **h + *&one;""",
    ),
    "structs that are copied from and to every memory": (
        "struct Pair { float a, b; };\nPair swapped(Pair p) { return {p.b, p.a}; }",
        """threadgroup Pair shared[2];
Pair p = {1, 2}, q = *(const device Pair*)x, r = ((const constant Pair*)few)[0];
shared[0] = q; shared[1] = r; p = shared[0]; q = swapped(shared[1]); Pair s = swapped(((const device Pair*)x)[1]);
((device Pair*)y)[0] = p; ((device Pair*)y)[1] = shared[1]; ((device Pair*)y)[2] = Pair{1, 2}; y[6] = s.a;""",
    ),
    "a struct with methods": (
        """template <class T, int N> struct Tile {
  T numbers[N];
  Tile(T all) { for (int i = 0; i < N; i++) numbers[i] = all; }
  thread T& operator[](int i) { return numbers[i]; }
  const thread T& at(int i) const thread { return numbers[i]; }
  T sum() const { T s = 0; for (int i = 0; i < N; i++) s += numbers[i]; return s; }
  void load(const device T* from, int step) { for (int i = 0; i < N; i++) numbers[i] = from[i * step]; }
};
template <class T, int N> Tile<T, N> doubled(Tile<T, N> t) { for (int i = 0; i < N; i++) t[i] *= 2; return t; }""",
        """Tile<float, 4> t(0); t.load(x, 2); auto u = doubled(t); u[1] = 3;
y[0] = t.sum() + u.sum() + u.at(0) + Tile<float, 2>(1).sum();""",
    ),
    "structs in structs, unions and classes": (
        """union Bits { float f; uint u; };
struct Outer { struct Inner { int a; } inner; Bits bits; };
class Sum { float s; public: Sum() : s(0) {} void add(float v) { s += v; } float get() const { return s; } };
class Twice : public Sum { public: void add_twice(float v) { add(v); add(v); } };
template <typename U, int N> struct Loader {
  const device U* from; threadgroup U* to; const int step;
  Loader(const device U* f, threadgroup U* t, int s) : from(f), to(t), step(s) {}
  void load() const { for (int i = 0; i < N; i++) to[i] = from[i * step]; }
};""",
        f"""{TILE}Outer a = {{{{1}}, {{2.0f}}}}; Outer b = a; threadgroup Outer shared[2]; shared[0] = b; b = shared[1];
Sum s; s.add(x[0]); Sum t = s; Twice u; u.add_twice(2); Loader<float, 4> loader(x, tile, 2); loader.load();
b = ((const constant Outer*)few)[0]; ((device Outer*)y)[3] = b; y[0] = t.get() + u.get() + b.inner.a + b.bits.u + tile[0];""",
    ),
    "vectors": (
        "using vec4 = metal::vec<float, 4>; constant float4 ONES = float4(1, 1, 1, 1);",
        """float4 v = *(const device float4*)x, w = float4(v.xy, 1, 2), z = float4(0), u = {1, 2, 3, 4};
w.xy = v.zw; w.zw += u.yx * 2; v = 2 * v + w / z - 1;
half4 h = half4(v); h *= 2.0h; v += float4(h) + vec4(1, 2, 3, 4) + ONES;
threadgroup float4 shared[8]; shared[0] = v;
bool4 less = v < w; v = select(v, w, less); v[2] = any(less) ? 1 : 2;
device float4* out = (device float4*)y; out[0] = max(v, 0.0f) + vec<float, 4>(shared[0].xyz, 1);
y[4] = dot(v, w) + length(float3(1, 2, 3)) + as_type<float2>(uint2(1, 2)).x + clamp(v, 0.0f, 1.0f).x;
uint2 i = uint2(3, 4) << 1; y[5] = i.x;""",
    ),
    "words that OpenCL keeps for itself": (
        "",
        """float local = 1, global = 2, generic = 3, pipe = 4, read_only = 5;
thread float& r = local; auto& s = global; y[0] = r + s + generic + pipe + read_only;""",
    ),
    "constants": (
        "constant constexpr int N = 4; static constant const float TABLE[N] = {1, 2, 3, 4}; constant bool YES = true;",
        "constexpr int M = N * max(2, 3); float own[M] = {}; const float three = 3; y[0] = TABLE[1] + own[2] + three + YES;",
    ),
    "literals and conversions": (
        "",
        """float a = 1.5, b = .5 * 1e-3, c = 2.h + 3.0f; half d = 1.0h; bfloat e = bfloat(a); T f = T(a);
y[0] = a * b + c + d + float(e) + float(f) + 1 / 3.0 + numeric_limits<T>::max() + INFINITY;""",
    ),
    "a helper for each memory": (
        """template <class P> float total(P p, int n) { float s = 0; for (int i = 0; i < n; i++) s += p[i]; return s; }
float head(const device float* p) { return p[0]; } float head(const threadgroup float* p) { return p[0]; }
float head(const constant float* p) { return p[0]; } float head(const thread float* p) { return p[0]; }""",
        f"""{TILE}{OWN}y[0] = total(x, 4) + total(few, 3) + total(tile, 4) + total(own, 4);
y[1] = head(x) + head(tile) + head(few) + head(own);""",
    ),
    "atomics": (
        "",
        """threadgroup atomic_int counts[4]; threadgroup atomic<float> sum; device atomic_uint* out = (device atomic_uint*)y;
atomic_store_explicit(&counts[0], 0, memory_order_relaxed); atomic_fetch_add_explicit(&sum, 1.0f, memory_order_relaxed);
int seen = atomic_load_explicit(&counts[0], memory_order_relaxed); atomic_fetch_max_explicit(out, 3u, memory_order_relaxed);
while (!atomic_compare_exchange_weak_explicit(&counts[0], &seen, seen + 1, memory_order_relaxed, memory_order_relaxed)) {}""",
    ),
    "matrices of every memory": (
        "",
        """threadgroup float part[64]; simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
simdgroup_load(a, x, 8); simdgroup_load(b, part, 8, ulong2(0, 0), true); simdgroup_multiply_accumulate(c, a, b, c);
simdgroup_store(c, part, 8); simdgroup_store(c, y, 8); c.thread_elements()[0] = 1; simdgroup_float8x8 all[2]; all[0] = c;""",
    ),
    "lambdas and auto": (
        "",
        f"""{TILE}auto square = [](float a) {{ return a * a; }};
float sum = 0; auto add = [&](float a) {{ sum += a; }}; add(square(x[0]));
auto first = [](const threadgroup float* p) {{ return p[0]; }}; y[0] = sum + first(tile);""",
    ),
    "SIMD functions of what lies in memory": (
        "",
        f"""{TILE}uint lane = thread_index_in_simdgroup; tile[lane] = x[lane]; threadgroup_barrier(mem_flags::mem_threadgroup);
y[0] = simd_sum(tile[lane]) + simd_shuffle_xor(x[lane], 1) + simd_max(few[0]) + simd_broadcast(tile[0], 0) + quad_sum(one);""",
    ),
    "strides, shapes, and MLX's utilities": (
        "",
        """uint i = thread_position_in_grid.x;
y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)] + ceildiv(7, 2) + few_shape[0];
complex64_t c = {1, 2}; c = c * c + complex64_t(3); y[1] = c.real + Limits<float>::max; bfloat16_t b = bfloat16_t(1.0f);""",
    ),
    "threadgroup memory of many kinds": (
        "struct alignas(16) Item { float4 v; int n[2]; };",
        """threadgroup T a[4], b[2][3]; threadgroup Item items[2]; threadgroup float number;
threadgroup metal::vec<float, 2> v[2];
a[0] = b[1][2] = T(1); items[0].n[1] = 3; number = items[0].v.x; v[1].x = 2; y[0] = sizeof(a) + number + float(b[0][0]);
threadgroup T* p = b[1]; threadgroup T (*rows)[3] = b;
for (int i = 0; i < 2; i++) { threadgroup T& r = rows[i][0]; r = p[0]; }""",
    ),
}
