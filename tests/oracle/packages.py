"""Random apk packages: realistic shapes and odd ones, of invented contents.

Invariant: everything follows from the random generator that is handed in; what is made is a package
that apko itself would accept, so a refusal by one side only is a difference.
"""
import gzip, hashlib, io, os, struct, tarfile

CHECKSUM = "APK-TOOLS.checksum.SHA1"
WORDS = "amber basin cedar delta ember fjord grove harbor inlet juniper kelp lagoon".split()
TIME = 1_767_225_600


def text(random, size):
    out = []
    while size > 0:
        line = " ".join(random.choice(WORDS) for _ in range(random.randint(3, 12)))
        out.append(line)
        size -= len(line) + 1
    return ("\n".join(out) + "\n").encode()


def content(random):
    kind = random.randrange(12)
    if kind == 0:
        return b""
    if kind == 1:
        return random.randbytes(random.randint(1, 3000))
    if kind == 2:
        return bytes([random.randrange(256)]) * random.choice([511, 512, 513, 70_000])
    if kind == 3 and random.random() < 0.15:
        return text(random, 120_000) + random.randbytes(66_000)
    return text(random, random.randint(10, 4000))


def library(random, machine, sonames, kind=3):
    """The smallest ELF that names a shared object."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in sonames)
    dynamic, at = b"", 1
    for name in sonames:
        dynamic += struct.pack("<QQ", 14, at)
        at += len(name) + 1
    dynamic += struct.pack("<QQ", 0, 0)
    names = b"\0.dynstr\0.dynamic\0.shstrtab\0"
    body = strings + dynamic + names
    start = 64
    sections = start + len(body)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 0, sections, 0, 64, 0, 0, 64, 4, 3)
    row = lambda name, kind, offset, size, link, entry: struct.pack(
        "<IIQQQQIIQQ", name, kind, 0, 0, offset, size, link, 0, 1, entry)
    table = row(0, 0, 0, 0, 0, 0) + row(1, 3, start, len(strings), 0, 0)
    table += row(9, 6, start + len(strings), len(dynamic), 1, 16)
    table += row(18, 3, start + len(strings) + len(dynamic), len(names), 0, 0)
    return header + body + table + random.randbytes(random.randint(0, 40))


class Package:
    """Entries in the order of the data archive, and what PKGINFO says."""

    def __init__(self, random, name, version):
        self.random, self.name, self.version = random, name, version
        self.entries, self.scripts, self.info = [], [], {}
        self.time = TIME + random.randint(-10_000_000, 10_000_000)
        self.directories = set()

    def mtime(self):
        return self.time if self.random.random() < 0.8 else self.random.choice([0, 1, TIME + 7, 2**33 - 1])

    def directory(self, path, mode=0o755, xattrs=None):
        self.directories.add(path)
        # Packages end the names of directories in either way.
        slash = "/" if self.random.random() < 0.3 else ""
        self.entries.append((tarfile.DIRTYPE, path + slash, mode, b"", "", xattrs or {}))
        return self

    def parents(self, path):
        parts = path.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            above = "/".join(parts[:end])
            if above not in self.directories:
                self.directory(above)
        return self

    def file(self, path, data, mode=0o644, xattrs=None):
        self.parents(path)
        self.entries.append((tarfile.REGTYPE, path, mode, data, "", xattrs or {}))
        return self

    def symlink(self, path, target):
        self.parents(path)
        self.entries.append((tarfile.SYMTYPE, path, 0o777, b"", target, {}))
        return self

    def hard_link(self, path, target):
        self.parents(path)
        self.entries.append((tarfile.LNKTYPE, path, 0o755, b"", target, {}))
        return self

    def script(self, name, mode=0o755):
        self.scripts.append((name, text(self.random, 60), mode))
        return self

    def _data(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for kind, path, mode, data, target, xattrs in self.entries:
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode, entry.linkname = kind, mode, target
                entry.mtime, entry.uname, entry.gname = self.mtime(), "root", "root"
                entry.uid, entry.gid = self.random.choice([(0, 0), (0, 0), (0, 0), (1000, 7)])
                if kind == tarfile.REGTYPE:
                    entry.size = len(data)
                    entry.pax_headers[CHECKSUM] = hashlib.sha1(data).hexdigest()
                if kind == tarfile.SYMTYPE:
                    entry.pax_headers[CHECKSUM] = hashlib.sha1(target.encode()).hexdigest()
                for name, value in xattrs.items():
                    entry.pax_headers["SCHILY.xattr." + name] = value
                archive.addfile(entry, io.BytesIO(data))
            end = archive.offset
        # tarfile fills up to 10 KiB; apk's archives end after two zero blocks.
        return out.getvalue()[:end] + bytes(1024)

    def write(self, folder, architecture):
        data = gzip.compress(self._data(), self.random.choice([1, 6, 9]), mtime=0)
        size = sum(len(entry[3]) for entry in self.entries)
        lines = [f"pkgname = {self.name}", f"pkgver = {self.version}", f"arch = {architecture}",
                 f"size = {size}", f"builddate = {self.time}"]
        for key, value in self.info.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{key} = {one}" for one in values]
        lines.append("datahash = " + hashlib.sha256(data).hexdigest())
        out = io.BytesIO()
        form = self.random.choice([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name, body, mode in [(".PKGINFO", ("\n".join(lines) + "\n").encode(), 0o644), *self.scripts]:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(body), mode, self.time
                entry.uname = entry.gname = "root"
                if form == tarfile.PAX_FORMAT and self.random.random() < 0.3:
                    entry.pax_headers["COMMENT.of"] = "tests"
                archive.addfile(entry, io.BytesIO(body))
            end = archive.offset
        control = out.getvalue()
        path = os.path.join(folder, f"{self.name}-{self.version}.apk")
        with open(path, "wb") as file:
            file.write(gzip.compress(control[:end], 9, mtime=0) + data)
        return path
