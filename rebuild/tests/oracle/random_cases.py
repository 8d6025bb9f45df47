#!/usr/bin/env python3
"""Random packages and configurations, assembled by the oracle, for comparing with the assembler.

usage: random_cases.py ORACLE_FOLDER OUT_FOLDER COUNT [FIRST_SEED]

ORACLE_FOLDER holds proto.py, vflags.py and gopdq.py. For each seed OUT_FOLDER gets the packages and
a case.json with configuration, version, order, times, and what the oracle made of it: diffIDs and
the digest of the image configuration, or "error" where it cannot be built. Layers are not
compressed: the encoder has vectors of its own. Then run:

  ASSAY_ORACLE_CASES=OUT_FOLDER cargo test -p assay-rebuild --test apko_oracle -- --ignored
"""
import base64, copy, gzip, hashlib, io, json, os, random, struct, sys, tarfile

ORACLE, OUT, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
FIRST = int(sys.argv[4]) if len(sys.argv) > 4 else 0
sys.path.insert(0, ORACLE)
import proto, vflags  # noqa: E402

VERSIONS = [
    "0.13.0", "0.14.1", "0.14.7", "0.14.8", "0.15.0", "0.17.0", "0.19.0", "0.19.1", "0.19.3",
    "0.19.5", "0.19.6", "0.20.1", "0.20.2", "0.22.0", "0.22.2", "0.22.3", "0.25.2", "0.25.6",
    "0.26.0", "0.27.0", "0.27.2", "0.27.3", "0.27.6", "0.29.4", "0.29.5", "0.29.9", "0.30.3",
    "0.30.4", "0.30.5", "0.30.10", "0.30.19", "0.30.30", "1.0.1", "1.2.17", "1.2.19", "1.2.21",
    "1.2.25", "1.2.30", "1.2.37", "1.2.39+1", "1.2.39+1", "1.2.39+1", "1.2.39+1", "1.2.39+1",
]
PARTS = ["share", "data", "x", "a-b", "a", "Z", "_", "doc.d", "ü", "long" * 20]
DATE = 1_760_000_000


def elf(rng, soname, machine):
    """A shared library without code: a dynamic section and its strings."""
    strings = b"\0" + soname.encode() + b"\0"
    strings += b"\0" * (-len(strings) % 8)
    dynamic = struct.pack("<QQQQ", 14, 1, 0, 0) if soname else struct.pack("<QQ", 0, 0)
    at_dynamic = 64 + len(strings)
    table = at_dynamic + len(dynamic)
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 1)
    sections = b"\0" * 64
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64, len(strings), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 6, 0, 0, at_dynamic, len(dynamic), 1, 0, 8, 16)
    return header + strings + dynamic + sections


class Package:
    def __init__(self, rng, number, names, arch):
        self.rng, self.arch = rng, arch
        self.name = names[number]
        self.version = "%d.%d.%d-r%d" % tuple(rng.randrange(12) for _ in range(4))
        self.origin = rng.choice([self.name, "org%d" % rng.randrange(4), ""])
        self.replaces = [n for n in names if rng.random() < 0.5]
        self.entries, self.seen = [], set()
        self.mtime = DATE - rng.randrange(10**7)

    def add(self, name, kind, mode, content=b"", link="", owner=(0, 0), attributes=None):
        if name in self.seen:
            return
        parent = os.path.dirname(name)
        if parent and parent not in self.seen:
            self.add(parent, "5", self.rng.choice([0o755, 0o755, 0o755, 0o750, 0o1777, 0o2755]))
        self.seen.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname = kind.encode(), mode, link
        info.uid, info.gid = owner
        info.uname, info.gname = self.rng.choice([("root", "root"), ("", ""), ("build", "users")])
        info.mtime = self.mtime + self.rng.randrange(1000)
        info.size = len(content)
        info.pax_headers = dict(attributes or {})
        if kind in "02":
            sha1 = hashlib.sha1(content if kind == "0" else link.encode()).hexdigest()
            info.pax_headers["APK-TOOLS.checksum.SHA1"] = sha1
        self.entries.append((info, content))

    def folder(self, top):
        parts = [self.rng.choice(top)] + [self.rng.choice(PARTS) for _ in range(self.rng.randrange(4))]
        return "/".join(parts)

    def path(self, top, kind):
        """A path of this package's own, or now and then one that others may bring too."""
        own = self.name if self.rng.random() < 0.93 else "shared"
        return "%s/%s-%s-%d" % (self.folder(top), kind, own, self.rng.randrange(9))

    def fill(self, top):
        rng = self.rng
        for _ in range(rng.randrange(2, 25)):
            roll = rng.random()
            kind = "file" if roll < 0.75 else "link" if roll < 0.9 else "hard-" + self.name
            name = self.path(top, kind)
            if roll < 0.2:
                self.add(self.folder(top), "5", rng.choice([0o755, 0o700, 0o4755, 0o1777]))
            elif roll < 0.75:
                size = rng.choice([0, 1, 10, 511, 512, 513, 3000])
                content = bytes(rng.randrange(256) for _ in range(size))
                if rng.random() < 0.3:
                    content = rng.choice([b"same\n", b"other\n"])
                owner = rng.choice([(0, 0), (0, 0), (65532, 65532), (7, 0), (2000000, 1)])
                attributes = {}
                if rng.random() < 0.1:
                    attributes["SCHILY.xattr.user.note"] = "v%d" % rng.randrange(9)
                mode = rng.choice([0o644, 0o644, 0o755, 0o4755, 0o2644, 0o600])
                self.add(name, "0", mode, content, owner=owner, attributes=attributes)
            elif roll < 0.9:
                link = rng.choice(["/etc", "../x", "x", "/usr", "/" + self.folder(top)])
                self.add(name, "2", 0o777, link=link)
            else:
                files = [i.name for i, _ in self.entries if i.type == b"0"]
                if files:
                    self.add(name, "1", 0o644, link=rng.choice(files))
        if rng.random() < 0.3:
            self.add("root-file-%d" % rng.randrange(3), "0", 0o644, b"r")

    def base(self, usr, glibc):
        """The base of a distribution: folders, accounts, libraries, busybox, bundles."""
        rng = self.rng
        self.name, self.origin = "base", "base"
        folders = ["dev", "etc", "usr", "usr/bin", "usr/lib", "var", "var/empty"]
        if not usr:
            folders += ["bin", "lib"]
        for name in sorted(folders):
            self.add(name, "5", 0o555 if name == "var/empty" else 0o755)
        if usr:
            self.add("bin", "2", 0o777, link="usr/bin")
            self.add("lib", "2", 0o777, link="usr/lib")
        binary = "usr/bin" if usr else "bin"
        lines = ["root:x:0:0:root:/root:/bin/ash", "bin:x:1:1:bin:/usr/bin:/sbin/nologin",
                 "none:x:5:5:n:/dev/null:/bin/false", "twin:x:0:0:again:/var/empty:/bin/sh"]
        text = "\n".join(lines[: rng.randrange(1, 5)]) + rng.choice(["", "\n"])
        self.add("etc/passwd", "0", 0o644, text.encode())
        self.add("etc/group", "0", 0o644, b"root:x:0:root\nwheel:x:10:root,bin\n")
        if rng.random() < 0.5:
            self.add("etc/shadow", "0", 0o640, b"root:*:1234:0:::::\nbin:!::0:::::\n")
        if rng.random() < 0.7:
            self.add(binary + "/busybox", "0", 0o755, b"#!busybox")
            links = "/bin/busybox\n/bin/sh\n/usr/bin/env\n/sbin/init\n/deep/er/link\n"
            self.add("etc/busybox-paths.d/base", "0", 0o644, links.encode())
            self.provides = ["busybox", "merged-lib"]
        if glibc:
            self.add("etc/ld.so.conf", "0", 0o644, b"# x\n/usr/lib\n/usr/local/lib # y\ninclude /etc/ld.so.conf.d/*.conf\n/never\n")
            self.add("etc/ld.so.conf.d/b.conf", "0", 0o644, b"/opt/b\n")
            self.add("etc/ld.so.conf.d/a.conf", "0", 0o644, b"/usr/lib\n/opt/a\n")
            machine = 62 if self.arch == "x86_64" else 183
            for number in range(rng.randrange(3, 40)):
                folder = rng.choice(["usr/lib", "usr/lib", "opt/a", "opt/b", "usr/local/lib"])
                soname = "lib%s.so.%d" % (rng.choice(["a", "b", "c10", "c9", "x2y"]), rng.randrange(12))
                file = rng.choice([soname, soname, soname.split(".so")[0] + ".so", soname + ".1"])
                self.add("%s/%s" % (folder, file), "0", 0o755, elf(rng, rng.choice([soname, soname, ""]), machine))
                if rng.random() < 0.3:
                    self.add("%s/%s.2" % (folder, soname), "2", 0o777, link=file)
        if rng.random() < 0.5:
            self.add("etc/ssl/certs/ca-certificates.crt", "0", 0o644, b"bundle\n")

    provides = []

    def write(self, folder):
        rng = self.rng
        order = list(self.entries)
        if rng.random() < 0.7:
            order.sort(key=lambda e: e[0].name)
            hard = [e for e in order if e[0].type == b"1"]
            order = [e for e in order if e[0].type != b"1"] + hard
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in order:
                tar.addfile(info, io.BytesIO(content))
        data = gzip.compress(data.getvalue(), mtime=0)
        lines = ["pkgname = " + self.name, "pkgver = " + self.version, "arch = " + self.arch]
        lines += ["size = %d" % rng.choice([0, 100, rng.randrange(10**6)])]
        lines += ["origin = " + self.origin] if self.origin else []
        lines += ["pkgdesc = some <text> & \"more\"", "builddate = %d" % (DATE + rng.randrange(10**6))]
        lines += ["license = MIT", "commit = %x" % rng.getrandbits(64), "maintainer = A <a@b>"]
        lines += ["replaces = " + name for name in self.replaces]
        lines += ["provides = " + name for name in self.provides]
        lines += ["depend = so:lib%d" % number for number in range(rng.randrange(3))]
        lines += ["triggers = /usr/lib /bin"] if rng.random() < 0.3 else []
        lines += ["datahash = " + hashlib.sha256(data).hexdigest()]
        control = io.BytesIO()
        with tarfile.open(fileobj=control, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            scripts = [(".PKGINFO", 0o644, ("\n".join(lines) + "\n").encode())]
            for name in (".pre-install", ".post-install", ".trigger"):
                if rng.random() < 0.3:
                    scripts.append((name, rng.choice([0o755, 0o755, 0o644, 0o555]), b"#!/bin/sh\nexit 0\n"))
            for name, mode, content in scripts:
                info = tarfile.TarInfo(name)
                info.mode, info.size, info.mtime = mode, len(content), self.mtime
                tar.addfile(info, io.BytesIO(content))
        control = control.getvalue()
        end = len(control.rstrip(b"\0"))
        control = gzip.compress(control[: (end + 511) // 512 * 512], mtime=0)
        file = "%s-%s.apk" % (self.name, self.version)
        with open(os.path.join(folder, file), "wb") as out:
            out.write(control + data)
        return file


def configuration(rng, packages, arch, flags):
    config = {"contents": {"repositories": ["https://r.test/b", "https://r.test/a"], "keyring": []},
              "entrypoint": {}, "accounts": {}, "archs": [arch]}
    contents = config["contents"]
    contents["packages"] = sorted("%s=%s" % (p.name, p.version) for p in packages)
    if rng.random() < 0.5:
        config["entrypoint"] = rng.choice([
            {"command": "/bin/x --a 'b c' \"d e\""},
            {"shell-fragment": "echo $1"},
            {"services": {"web": "/usr/bin/web", "log": "/bin/log -f"}},
        ])
    if rng.random() < 0.6:
        users = [{"username": "nonroot", "uid": 65532, "gid": rng.choice([65532, 0, None])},
                 {"username": "svc", "uid": 2000, "shell": "/bin/bash", "homedir": "/srv/svc"}]
        config["accounts"] = {"users": users[: rng.randrange(1, 3)],
                              "run-as": rng.choice(["nonroot", "65532", "root", ""])}
        if rng.random() < 0.5:
            config["accounts"]["groups"] = [{"groupname": "g", "gid": 65532, "members": ["nonroot"]}]
    if rng.random() < 0.4:
        config["environment"] = {"A": "<b>", "PATH": "/x"} if rng.random() < 0.5 else {"Z": "\u2028"}
    if rng.random() < 0.5:
        annotations = {"org.opencontainers.image.title": "t<&>", "x": "é"}
        if rng.random() < 0.5:
            annotations["org.opencontainers.image.vendor"] = ""
        config["annotations"] = annotations
    if rng.random() < 0.3:
        config["volumes"] = ["/b", "/a", "/b"]
    if rng.random() < 0.3:
        config.update({"cmd": "serve -p 1", "work-dir": "/w", "stop-signal": "SIGINT"})
    kinds = ["directory", "empty-file", "symlink", "hardlink", "permissions"]
    paths = []
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        kind = rng.choice(kinds)
        path = rng.choice(["/new/%d" % rng.randrange(3), "/etc", "/usr/bin", "/var", "/etc/group"])
        if kind == "directory" and path == "/etc/group":
            path = "/etc"
        if kind == "permissions" and path.startswith("/new"):
            path = "/dev"
        if kind in ("symlink", "hardlink", "empty-file"):
            path = "/made/%s%d" % (kind, len(paths))
        change = {"path": path, "type": kind, "permissions": rng.choice([0o755, 0o2775, 0o600, 0o1777])}
        if kind in ("symlink", "hardlink"):
            change["source"] = "/etc/passwd"
        for field in ("uid", "gid"):
            if rng.random() < 0.4:
                change[field] = rng.choice([0, 65532])
        if rng.random() < 0.3:
            change["recursive"] = True
        paths.append(change)
    if paths:
        config["paths"] = paths
    if rng.random() < 0.6 and vflags.key(flags) >= vflags.key("0.26.0"):
        config["layering"] = {"strategy": "origin", "budget": rng.choice([1, 2, 3, 5, 50])}
    return config


def make(seed):
    rng = random.Random(seed)
    folder = os.path.join(OUT, str(seed))
    os.makedirs(folder, exist_ok=True)
    version = rng.choice(VERSIONS)
    arch, apk = rng.choice([("amd64", "x86_64"), ("arm64", "aarch64")])
    usr = rng.random() < 0.6 and vflags.key(version) >= vflags.key("0.27.2")
    names = ["p%d" % number for number in range(rng.randrange(1, 7))]
    base = Package(rng, 0, names, apk)
    base.base(usr, rng.random() < 0.6)
    packages = [base]
    top = ["usr", "usr", "etc", "opt", "srv", "var"]
    for number in range(len(names)):
        package = Package(rng, number, names, apk)
        package.fill(top)
        packages.append(package)
    files = [package.write(folder) for package in packages]
    config = configuration(rng, packages, arch, version)
    epoch = rng.choice([None, None, None, 1_600_000_000])
    case = {"version": version, "architecture": arch, "packages": files, "epoch": epoch,
            "config": copy.deepcopy(config), "keys": {"k.rsa.pub": "key\n"}}
    proto.VF.clear()
    proto.VF.update(vflags.flags(version))
    layering = config.get("layering")
    proto.VF["layered"], proto.VF["opt"] = bool(layering), epoch or 0
    try:
        builder = proto.Builder(config, arch, folder, bde_env=epoch, keys={"k.rsa.pub": b"key\n"})
        records = builder.install([proto.Apk(os.path.join(folder, f)) for f in files], epoch or 0)
        builder.finish()
        layers = builder.layers(records, layering["budget"]) if layering else [builder.tar()]
        proto.gz = lambda data: b""
        created = epoch if epoch is not None else builder.bde()
        image = proto.image(config, layers, created, arch)[0]
        case["diff_ids"] = [proto.sha(layer) for layer in layers]
        case["image"] = proto.sha(image)
        if os.environ.get("DUMP"):
            for number, layer in enumerate(layers):
                open(os.path.join(folder, "layer-%d.tar" % number), "wb").write(layer)
            open(os.path.join(folder, "image.json"), "wb").write(image)
    except Exception as error:  # the oracle raises where apko fails
        case["error"] = "%s: %s" % (type(error).__name__, error)
    with open(os.path.join(folder, "case.json"), "w") as out:
        json.dump(case, out, indent=1, sort_keys=True)
    return "error" in case


errors = sum(make(seed) for seed in range(FIRST, FIRST + COUNT))
print("%d cases, %d of them cannot be built" % (COUNT, errors))
