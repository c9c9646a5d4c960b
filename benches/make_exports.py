#!/usr/bin/env python3
"""Makes per-kind Datastore exports for benchmarks: any size, no emulator, Python's standard library only.

    make_exports.py --out FOLDER --bytes 512M --pool 400

The files are as managed exports have them (docs/formats.md): logs of EntityProto with right checksums, in one export for each kind and
namespace. The same arguments give the same bytes. They deflate about 3:1, as exports of texts, references and numbers do.
"""
import argparse
import gc
import json
import multiprocessing
import os
import random
import struct
import sys
import time
import urllib.parse

# ---------------------------------------------------------------- CRC-32C and log framing
POLY = 0x82F63B78
BLOCK = 32768
T0 = []
for _n in range(256):
    _c = _n
    for _ in range(8):
        _c = (_c >> 1) ^ POLY if _c & 1 else _c >> 1
    T0.append(_c)


def raw(state, data):
    """CRC register update without the final/initial inversion."""
    t = T0
    for b in data:
        state = t[(state ^ b) & 255] ^ (state >> 8)
    return state


def mask(crc):
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


TYPE_STATE = [raw(0xFFFFFFFF, bytes([t])) for t in range(5)]  # register after the type byte

class LogWriter:
    """LevelDB log framing; no padding at the end of the file (as managed exports are)."""

    def __init__(self, f):
        self.f, self.pos, self.buf = f, 0, []

    def record(self, data):
        left = BLOCK - self.pos % BLOCK
        if left < 7:
            self.buf.append(bytes(left)); self.pos += left; left = BLOCK
        n = len(data)
        if n + 7 <= left:
            self.buf.append(struct.pack("<IHB", mask(raw(TYPE_STATE[1], data) ^ 0xFFFFFFFF), n, 1))
            self.buf.append(data)
            self.pos += n + 7
        else:
            p, typ = 0, 2
            while True:
                if left < 7:
                    self.buf.append(bytes(left)); self.pos += left; left = BLOCK
                k = min(left - 7, n - p)
                if typ != 2 and p + k == n:
                    typ = 4
                d = data[p:p + k]
                self.buf.append(struct.pack("<IHB", mask(raw(TYPE_STATE[typ], d) ^ 0xFFFFFFFF), k, typ))
                self.buf.append(d)
                self.pos += k + 7; p += k
                if p == n and typ == 4:
                    break
                typ = 3
                left = BLOCK - self.pos % BLOCK
        if len(self.buf) > 4096:
            self.flush()

    def flush(self):
        self.f.write(b"".join(self.buf)); self.buf = []


# ---------------------------------------------------------------- protobuf helpers
def vi(n):
    if n < 0:
        n += 1 << 64
    o = bytearray()
    while n > 127:
        o.append(n & 127 | 128); n >>= 7
    o.append(n)
    return bytes(o)


def ld(f, b):
    return vi(f << 3 | 2) + vi(len(b)) + b


def iv(f, n):
    return vi(f << 3) + vi(n)


def grp(f, b):
    return vi(f << 3 | 3) + b + vi(f << 3 | 4)


# ---------------------------------------------------------------- metadata files
def ns_label(ns):
    return "default_namespace" if ns == "" else "namespace_" + ns


def write_metadata(base, name, kind, ns, files, n, size, t0, t1):
    nd, kd = ns_label(ns), "kind_" + kind
    info = ld(1, name.encode()) + iv(2, t0) + iv(3, t1)
    ki = ld(1, kind.encode()) + b"".join(ld(2, f.encode()) for f in files)
    em = "%s_%s.export_metadata" % (nd, kd)
    with open(os.path.join(base, nd, kd, em), "wb") as f:
        f.write(ld(1, info) + ld(2, ki))
    spec = iv(1, 1) + ld(2, kind.encode()) + iv(3, 1 if ns == "" else 2) + ld(4, ns.encode())
    ptr = ld(1, spec) + ld(2, ("%s/%s/%s" % (nd, kd, em)).encode()) + iv(3, n) + iv(4, size)
    path = os.path.join(base, name + ".overall_export_metadata")
    with open(path, "wb") as f:
        w = LogWriter(f); w.record(b"3"); w.record(ld(1, ptr)); w.flush()


# ---------------------------------------------------------------- vocabulary and schemas
KINDS = ["Customer", "Order", "OrderLine", "Product", "Review", "Session", "AuditLog", "Media",
         "Invoice", "Payment", "Shipment", "Address", "Coupon", "Warehouse", "StockMove", "Ticket",
         "Message", "Attachment", "Campaign", "Subscription", "Device", "Event", "Kategorie_Größe", "価格表"]
WORDS = ("the of and to in is was for it with as his on be at by had not but from or have an they which one you "
         "were her all she there would their we him been has when who will more no if out so said what up its about "
         "into than them can only other new some could time these two may then do first any my now such like our over "
         "man me even most made after also did many before must through back years where much your way well down "
         "should because each just those people how too little state good very make world still own see men work long "
         "get here between both life being under never day same another know while last might us great old year off "
         "come since against go came right used take three customer order delivery invoice warehouse product review "
         "account password session request response mobile tablet image picture upload profile message friend group "
         "comment answer question support ticket payment refund coupon discount season spring summer autumn winter "
         "Kraków Łódź Gdańsk Wrocław Poznań Zürich São Málaga naïve façade").split()


def vocabulary(rng):
    words = list(WORDS)
    syl = ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu", "an", "er", "in", "ol", "us"]
    while len(words) < 1500:
        words.append("".join(rng.choice(syl) for _ in range(rng.randint(2, 4))))
    weights = [1.0 / (i + 8) for i in range(len(words))]
    return words, weights


def kind_name(i):
    return KINDS[i] if i < len(KINDS) else "%s%02d" % (KINDS[i % 22], i)


# ---------------------------------------------------------------- entities
# Speed comes from templates.  A "run" is RUN bytes (whole blocks) of a valid log, holding at
# most 128 records; the id of record j of run number r is FIRST_ID + 128*r + j, so between two
# uses of a run only two id bytes per key change, the same two everywhere.  A CRC is linear in
# its register, so the checksum of a fragment is the template's XOR a few table entries, and the
# checksum of a template record is put together from those of its pieces.
RUN = 2 * BLOCK
MAX_RUNS = 1 << 14            # two id bytes of 7 bits: 1 GiB per kind and namespace
FIRST_ID = 1 << 28            # 5-byte varints
STATES = ("new", "open", "paid", "shipped", "returned", "closed")
ZERO = [0] * 128

_pow, _tabs, _idtabs, _segments = [], {}, {}, {}


def shift(reg, n):
    """The CRC register after n zero bytes."""
    k = 0
    while n:
        if len(_pow) <= k:
            basis = ([raw(1 << b, b"\0") for b in range(32)] if not k else
                     [shift_k(shift_k(1 << b, k - 1), k - 1) for b in range(32)])
            _pow.append(_tables(basis))
        if n & 1:
            reg = shift_k(reg, k)
        n >>= 1
        k += 1
    return reg


def _tables(basis):
    tabs = []
    for q in range(4):
        tab = [0]
        for bit in range(8):
            tab += [x ^ basis[8 * q + bit] for x in tab]
        tabs.append(tab)
    return tuple(tabs)


def shift_k(reg, k):
    t = _pow[k]
    return t[0][reg & 255] ^ t[1][reg >> 8 & 255] ^ t[2][reg >> 16 & 255] ^ t[3][reg >> 24]


def seg(b):
    """A piece: (bytes, its register from 0, four tables that shift a register over its length)"""
    n = len(b)
    if n not in _tabs:
        _tabs[n] = _tables([shift(1 << k, n) for k in range(32)])
    return (b, raw(0, b)) + _tabs[n]


def id_tables(dist):
    """What the two changing id bytes do to a register when dist bytes follow the second one."""
    t = _idtabs.get(dist)
    if t is None:
        t = []
        for d in (dist + 1, dist):
            tab = [0]
            for bit in range(7):
                x = shift(T0[1 << bit], d)
                tab += [y ^ x for y in tab]
            t.append(tab)
        t = _idtabs[dist] = tuple(t)
    return t


def segments(seed, count=12288):
    """About 2.6 MB of text in pieces of 160-272 bytes, natural word frequencies."""
    if seed not in _segments:
        rng = random.Random("segments-%d" % seed)
        words, weights = vocabulary(rng)
        enc = [w.encode() for w in words]
        pool, at, out = rng.choices(enc, weights, k=count * 52), 0, []
        for _ in range(count):
            want, n, parts = rng.randrange(160, 288, 16), 0, []
            while n < want:
                w = pool[at % len(pool)] + (b" " if at % 11 else b". "); at += 1
                parts.append(w); n += len(w)
            out.append(seg(fit(b"".join(parts), want)))
        _segments[seed] = out
    return _segments[seed]


def fit(b, size):
    """size bytes of valid UTF-8 out of b"""
    b = b[:size]
    k = len(b)
    while k and b[k - 1] & 0xC0 == 0x80:
        k -= 1
    if k and b[k - 1] >= 0xC0:
        b = b[:k - 1]
    return b + b"." * (size - len(b))


class Record:
    __slots__ = ("data", "crc")


class KindMaker:
    """Builds the template runs of one (namespace, kind); deterministic by its arguments."""

    def __init__(self, a, ns, kind, other, mean):
        self.a, self.ns, self.kind, self.other, self.mean = a, ns, kind, other, mean
        self.rng = random.Random("%d|%s|%s|%s" % (a.seed, a.project, ns, kind))
        self.segs = segments(a.seed)
        self.us = 1349913600000000 + int(self.rng.random() * 10 ** 13)
        app, nsb, idn = a.project.encode(), ld(20, ns.encode()) if ns else b"", vi(FIRST_ID)
        p = lambda name, val, mean=None, mult=0: ld(14, (iv(1, mean) if mean is not None else b"") + ld(3, name) + iv(4, mult) + ld(5, val))
        el = grp(1, ld(2, kind.encode()) + iv(3, FIRST_ID))
        key, cut = ld(13, ld(13, app) + ld(14, el) + nsb), len(el) - 6
        at = key.index(el) + cut
        created, serial, amount = p(b"created", iv(1, 1 << 50), 7), p(b"serial", ld(3, b"0" * 12)), p(b"amount", b"\x21" + b"\0" * 8)
        ref = p(b"related", grp(12, ld(13, app) + grp(14, ld(15, other.encode()) + iv(16, FIRST_ID)) + nsb))
        rat = ref.rindex(idn)
        self.heads = (seg(key[:at]), seg(key[at + 5:] + created[:-8]), seg(serial[:-12]), seg(amount[:-8]), seg(ref[:rat]))
        self.states = [seg(ref[rat + 5:] + p(b"state", ld(3, st.encode())) + p(b"active", iv(2, k & 1)) + p(b"tags", ld(3, st.encode()), None, 1)
                           + p(b"tags", ld(3, b"t%d" % k), None, 1)) for k, st in enumerate(STATES)]
        self.body_head = seg(iv(1, 15) + ld(3, b"body") + iv(4, 0) + b"\x2a")
        group = ld(16, el)
        self.tail = (seg(group[:-6]), seg(group[-1:]))
        self.id1, self.id2 = at, 6                       # id: at from the start, 6 from the end
        self.group_tables = id_tables(6 - 3)             # the group's id bytes 1 and 2: 3 bytes follow
        self.fixed = sum(len(h[0]) for h in self.heads) + 5 + 8 + 12 + 8 + 5 + len(group)

    def size(self, state, body):
        inner = 1 + len(vi(body)) + body
        plen = len(self.body_head[0]) + len(vi(inner)) + inner
        return self.fixed + len(self.states[state][0]) + 1 + len(vi(plen)) + plen

    def record(self, j, state, pieces, blen):
        rng, t = self.rng, T0
        self.us += int(rng.random() * 80000000)
        serial, cents = "%012d" % int(rng.random() * 10 ** 12), int(rng.random() * 900000)
        rid = FIRST_ID + int(rng.random() * self.a.ref_span)
        idb = bytes((j & 127 | 128, 128, 128, 128, 1))
        inner = 1 + len(vi(blen)) + blen
        plen = len(self.body_head[0]) + len(vi(inner)) + inner
        c, parts = TYPE_STATE[1], []
        for h, v in zip(self.heads + (self.states[state], self.body_head), (idb, vi(self.us), serial.encode(), struct.pack("<d", cents / 100), vi(rid),
                                                                           b"\x7a" + vi(plen), vi(inner) + b"\x1a" + vi(blen))):
            b, r, a0, a1, a2, a3 = h
            c = a0[c & 255] ^ a1[c >> 8 & 255] ^ a2[c >> 16 & 255] ^ a3[c >> 24] ^ r
            for x in v:
                c = t[(c ^ x) & 255] ^ (c >> 8)
            parts.append(b); parts.append(v)
        for b, r, a0, a1, a2, a3 in pieces:
            c = a0[c & 255] ^ a1[c >> 8 & 255] ^ a2[c >> 16 & 255] ^ a3[c >> 24] ^ r
            parts.append(b)
        for h, v in zip(self.tail, (idb, b"")):
            b, r, a0, a1, a2, a3 = h
            c = a0[c & 255] ^ a1[c >> 8 & 255] ^ a2[c >> 16 & 255] ^ a3[c >> 24] ^ r
            for x in v:
                c = t[(c ^ x) & 255] ^ (c >> 8)
            parts.append(b); parts.append(v)
        rec = Record()
        rec.data, rec.crc = b"".join(parts), c ^ 0xFFFFFFFF
        return rec

    def run(self, large=False):
        """-> (bytes, [end offset of record j], [id offsets], [(offset, which byte)], [checksums])"""
        recs, pos, rng, segs, limit = [], 0, self.rng, self.segs, RUN
        n = len(segs)
        while True:
            j, state = len(recs), int(rng.random() * 6)
            if large and not j:
                k = 800 + int(rng.random() * 800)
                limit = -(-(k * 280 + 8000) // BLOCK) * BLOCK
            else:
                k = 1 + int(rng.random() * 2 * self.mean)
            pieces = [segs[int(rng.random() * n)] for _ in range(k)]
            blen = sum(len(x[0]) for x in pieces)
            end = self._advance(pos, self.size(state, blen))
            if limit - end < 2500 and not (large and not j) or j == 127:      # the last record ends the run exactly
                want = self._closing(pos, limit, state, blen + (limit - end))
                text = b"".join(x[0] for x in pieces)
                while len(text) < want:
                    text += segs[int(rng.random() * n)][0]
                recs.append(self.record(j, state, [seg(fit(text, want))], want))
                return self._frame(recs)
            recs.append(self.record(j, state, pieces, blen))
            pos = end

    def _closing(self, pos, limit, state, want):
        """The length of text with which a record that begins at pos ends at limit. A length takes one byte more to write from some text on, which
        jumps over some ends: then the record ends a few bytes earlier, and zeros follow."""
        for _ in range(8):
            end = self._advance(pos, self.size(state, want))
            if end == limit:
                return want
            want = max(0, want + limit - end)
        while want and self._advance(pos, self.size(state, want)) > limit:
            want -= 1
        while self._advance(pos, self.size(state, want + 1)) <= limit:
            want += 1
        return want

    @staticmethod
    def _advance(pos, n):
        left = BLOCK - pos % BLOCK
        if left < 7:
            pos += left; left = BLOCK
        while n + 7 > left:
            n -= left - 7
            pos += left; left = BLOCK
        return pos + n + 7

    def _frame(self, recs):
        out, ends, whole, single, sums = bytearray(), [], [], [], []
        for r in recs:
            data, n = r.data, len(r.data)
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left); left = BLOCK
            if n + 7 <= left:
                h = len(out)
                out += struct.pack("<IHB", mask(r.crc), n, 1)
                out += data
                whole.append(h + 7 + self.id1 + 1); whole.append(h + 7 + n - self.id2 + 1)
                sums.append((h, r.crc) + id_tables(n - self.id1 - 3) + (1,))
            else:
                at = [(self.id1 + 1, 0), (self.id1 + 2, 1), (n - self.id2 + 1, 0), (n - self.id2 + 2, 1)]
                p, first = 0, True
                while True:
                    if left < 7:
                        out += bytes(left); left = BLOCK
                    k = min(left - 7, n - p)
                    last = p + k == n
                    typ = 2 if first else 4 if last else 3
                    d = data[p:p + k]
                    crc, h = raw(TYPE_STATE[typ], d) ^ 0xFFFFFFFF, len(out)
                    out += struct.pack("<IHB", mask(crc), k, typ)
                    out += d
                    tabs = [ZERO, ZERO]
                    for o, i in at:
                        if p <= o < p + k:
                            tab = id_tables(p + k - 1 - o)[1]
                            tabs[i] = [u ^ v for u, v in zip(tabs[i], tab)]
                            single.append((h + 7 + o - p, i))
                    if tabs[0] is not ZERO or tabs[1] is not ZERO:
                        sums.append((h, crc, tabs[0], tabs[1], 0))
                    p += k; first = False
                    if last:
                        break
                    left = BLOCK - len(out) % BLOCK
            ends.append(len(out))
        out += bytes(-len(out) % BLOCK)
        return bytes(out), ends, whole, single, sums


class KindData:
    """All template runs of one kind, and its output files."""

    def __init__(self, a, ns, kind, other, mean, nbytes, entities):
        self.a, self.ns, self.kind = a, ns, kind
        mk = KindMaker(a, ns, kind, other, mean)
        need = -(-nbytes // RUN) if nbytes else entities // 12 + 1
        self.pool = [mk.run() for _ in range(max(1, min(a.pool, need)))]
        self.large = mk.run(True) if a.large_every and (nbytes > 4 << 20 or (entities or 0) >= a.large_every) else None
        per_run = sum(len(t[1]) for t in self.pool) / len(self.pool)
        self.count = entities or max(1, int(nbytes / RUN * per_run))
        self.runs_per_shard = max(1, a.shard_bytes // RUN)
        self.large_gap = max(2, int((a.large_every or 1) / per_run))
        self.group = mk.group_tables

    def write(self, root):
        """writes output-0.. under root, returns (entities, [(name, bytes)])"""
        left, r, files = self.count, 0, []
        pk, (g0, g1), pool = struct.Struct("<I").pack_into, self.group, self.pool
        while left:
            name, size = "output-%d" % len(files), 0
            with open(os.path.join(root, name), "wb") as f:
                for _ in range(self.runs_per_shard):
                    if not left:
                        break
                    if r >= MAX_RUNS:
                        sys.exit("more than 1 GiB for one kind and namespace: ask for more kinds")
                    t = self.large if self.large and r % self.large_gap == self.large_gap - 1 else pool[r % len(pool)]
                    body, ends, whole, single, sums = t
                    b = bytearray(body)
                    x, y = r & 127, r >> 7
                    rb = bytes((x | 128, y | 128))
                    for o in whole:
                        b[o:o + 2] = rb
                    for o, i in single:
                        b[o] = rb[i]
                    g = g0[x] ^ g1[y]
                    for o, c, k0, k1, full in sums:
                        c ^= k0[x] ^ k1[y]
                        if full:
                            c ^= g
                        pk(b, o, ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF)
                    n = len(ends)
                    if n > left:
                        n = left
                        b = b[:ends[n - 1]]
                        if 0 < -len(b) % BLOCK < 7:          # a file that ends with 1-6 bytes left in its
                            b += bytes(-len(b) % BLOCK)      # block hangs the emulator's importer: pad it
                    f.write(b)
                    size += len(b)
                    left -= n
                    r += 1
            files.append((name, size))
        return self.count, files


def parse_size(s):
    m = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(s[-1].upper())
    return int(float(s[:-1]) * m) if m else int(s)


def _job(job):
    gc.disable()                                     # nothing cyclic here; the tables make collections slow
    a, ns, kind, other, mean, nbytes, entities, d = job
    n, files = KindData(a, ns, kind, other, mean, nbytes, entities).write(d)
    return d, n, files


def make(a):
    t_start = time.time()
    a.ref_span = 8
    pairs = [(ns, k) for ns in a.namespaces.split(",") for k in range(a.kinds)]
    rng = random.Random("sizes-%d" % a.seed)
    weight = [rng.paretovariate(1.1) for _ in pairs]              # a few big kinds, many small ones
    if a.even:
        weight = [1.0] * len(pairs)
    means = [a.text or rng.choice((2, 3, 4, 6, 9, 12)) for _ in pairs]
    tot = sum(weight)
    if os.path.exists(a.out) and os.listdir(a.out):
        sys.exit("%s is not empty" % a.out)
    plan, jobs = [], []
    for n, ((ns, k), w, mean) in enumerate(zip(pairs, weight, means)):
        kind, other = kind_name(k), kind_name((k + 3) % a.kinds)
        t0 = 1600000000000000 + a.seed % 100000 * 1000000 + n * 60000000
        name = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t0 // 1000000)) + "_%d" % (t0 // 17 % 90000 + 1000)
        base = os.path.join(a.out, urllib.parse.quote(ns, safe="") if ns else "default", urllib.parse.quote(kind, safe=""), name)
        d = os.path.join(base, ns_label(ns), "kind_" + kind)
        os.makedirs(d)
        plan.append((base, name, kind, ns, d, t0))
        jobs.append((a, ns, kind, other, mean, int(a.bytes * w / tot) if a.bytes else 0, 0 if a.bytes else a.entities, d))
    jobs.sort(key=lambda j: -j[5])
    if a.jobs > 1:
        with multiprocessing.Pool(a.jobs) as pool:
            done = {d: (n, files) for d, n, files in pool.imap_unordered(_job, jobs)}
    else:
        done = {d: (n, files) for d, n, files in map(_job, jobs)}
    total = entities = 0
    for base, name, kind, ns, d, t0 in plan:
        n, files = done[d]
        size = sum(f[1] for f in files)
        write_metadata(base, name, kind, ns, [f[0] for f in files], n, size, t0, t0 + 30000000)
        total += size
        entities += n
    print(json.dumps({"exports": len(plan), "entities": entities, "bytes": total, "seconds": round(time.time() - t_start, 1)}))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    g = ap.add_mutually_exclusive_group(required=True)
    g.add_argument("--bytes", type=parse_size, help="total, such as 1G; spread unevenly over the kinds")
    g.add_argument("--entities", type=int, help="for each kind and namespace")
    ap.add_argument("--out", required=True, help="a folder that is empty or not there")
    ap.add_argument("--even", action="store_true", help="spread --bytes evenly")
    ap.add_argument("--text", type=int, default=0, help="pieces of text of 216 bytes in an entity, about; 1 makes entities of 620 bytes (0: 2-12 by kind)")
    ap.add_argument("--kinds", type=int, default=8)
    ap.add_argument("--namespaces", default=",acme", help="comma separated; an empty item is the default namespace")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--project", default="s~demo-src", help="the app id inside the keys")
    ap.add_argument("--shard-bytes", type=parse_size, default=parse_size("64M"), help="size of one output-N")
    ap.add_argument("--large-every", type=int, default=20000, help="every Nth entity is 180-350 KB (0: none)")
    ap.add_argument("--pool", type=int, default=40, help="runs of 64 KiB per kind before its text repeats")
    ap.add_argument("--jobs", type=int, default=1, help="processes")
    a = ap.parse_args()
    if not (a.bytes or a.entities):
        ap.error("nothing to make: --bytes or --entities must be more than 0")
    if len(set(a.namespaces.split(","))) != len(a.namespaces.split(",")):
        ap.error("a namespace twice")
    make(a)


if __name__ == "__main__":
    main()
