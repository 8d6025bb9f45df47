#!/usr/bin/env python3
"""Random packages and configurations, and what an oracle makes of them.

usage: random_cases.py ORACLE OUT COUNT [FIRST_SEED]

ORACLE is a folder with proto.py and vflags.py: an independent program that assembles apko's bytes. Each
case is a folder OUT/SEED with its packages and a case.json that has the configuration and the oracle's
digests; `rebuild/tests/apko_oracle.rs` assembles the same and compares. docs/SUPPORT.md has the result.

Invariant: a case follows from its seed alone. A case that the oracle cannot do (not: refuses) is not
written, and counted.
"""
import base64, copy, hashlib, json, multiprocessing, os, random, shutil, struct, sys
from go_stable import go_sorted
from packages import Package, TIME, content, library

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = ["0.13.0", "0.14.1", "0.14.7", "0.16.0", "0.18.1", "0.19.0", "0.19.2", "0.19.4", "0.19.6", "0.20.0",
            "0.20.1", "0.20.2", "0.22.0", "0.22.2", "0.22.3", "0.25.0", "0.25.2", "0.25.6", "0.26.0", "0.27.0",
            "0.27.2", "0.27.3", "0.27.6", "0.29.4", "0.29.5", "0.29.9", "0.30.3", "0.30.5", "0.30.10", "0.30.18",
            "0.30.19", "0.30.28", "1.0.1", "1.1.16", "1.2.17", "1.2.19", "1.2.21", "1.2.25", "1.2.30", "1.2.37",
            "1.2.39"]
ARCHITECTURES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}


def number(version):
    return tuple(int(part) for part in version.split("."))


def certificate():
    with open(os.path.join(HERE, "../../rebuild/tests/fixtures/apko/cert.pem")) as file:
        return file.read()


def trust_store(random):
    """A Java key store with one certificate, as apko finds it."""
    lines = [line for line in certificate().splitlines() if line and not line.startswith("-")]
    der = base64.b64decode("".join(lines))
    alias = b"first"
    out = struct.pack(">III", 0xFEEDFEED, 2, 1) + struct.pack(">IH", 2, len(alias)) + alias
    out += struct.pack(">QH", random.randint(1, 2**40), 5) + b"X.509" + struct.pack(">I", len(der)) + der
    return out + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + out).digest()


def base(random, version):
    """The package that every image has."""
    made = Package(random, "base", "1-r0")
    made.info["origin"] = "base"
    merged = number(version) >= (0, 27, 2) and random.random() < 0.5
    for path in ["etc", "usr", "usr/bin", "usr/lib"]:
        made.directory(path, random.choice([0o755, 0o755, 0o700]))
    if merged:
        made.symlink("lib", "usr/lib").symlink("bin", "usr/bin")
        if random.random() < 0.3:
            made.info["provides"] = "merged-lib"
    else:
        made.directory("lib").directory("bin")
        if number(version) >= (0, 30, 10) and random.random() < 0.2:
            made.info["provides"] = ["merged-lib", "other"]
    users = "root:x:0:0:root:/root:/bin/sh\n" + random.choice(["", "web:x:33:33:web:/var/web:/bin/false\n"])
    made.file("etc/passwd", users.encode()).file("etc/group", b"root:x:0:root\nweb:x:33:\n")
    if random.random() < 0.3:
        made.file("etc/shadow", b"root:!:19000::::::\n", 0o640)
    return made


def busybox(random):
    version = random.choice(["1.36.1-r5", "1.33.1-r0", "1.35.0-r1", "1.99.0-r0"])
    made = Package(random, "busybox", version)
    made.info["origin"] = "busybox"
    made.file("bin/busybox", b"#!busybox " + random.randbytes(200), 0o755)
    if random.random() < 0.6:
        made.file("etc/busybox-paths.d/busybox", b"/bin/busybox\n/bin/sh\n/usr/bin/env\n/opt/tools/x\n\n")
    made.info["triggers"] = "/bin /usr/bin"
    made.script(".post-install").script(".trigger", random.choice([0o755, 0o644]))
    return made


def libraries(random, machine):
    made = Package(random, "glibc", "2.40-r1")
    conf = random.choice(["/usr/lib\n", "/opt/lib # more\ninclude /etc/ld.so.conf.d/*.conf\n", "include ld.so.conf.d/*\n"])
    made.file("etc/ld.so.conf", conf.encode()).file("etc/ld.so.conf.d/one.conf", b"/usr/lib/one\n/usr/lib/two\n")
    for _ in range(random.randint(3, 30)):
        stem = "lib" + random.choice(["a", "b", "foo", "x11-", "z"]) + random.choice(["", "1", "10", "2"])
        soname = f"{stem}.so.{random.randint(0, 12)}"
        folder = random.choice(["usr/lib", "usr/lib/one", "usr/lib/two", "opt/lib"])
        path = f"{folder}/{soname}"
        if any(entry[1] == path for entry in made.entries):
            continue
        names = random.choice([[soname], [soname], [], [soname + ".9"]])
        made.file(path, library(random, machine, names, random.choice([3, 3, 3, 2])), 0o755)
        if random.random() < 0.4 and not any(entry[1] == f"{folder}/{stem}.so" for entry in made.entries):
            made.symlink(f"{folder}/{stem}.so", random.choice([soname, f"/{path}", "nothing"]))
    return made


def bundles(random):
    made = Package(random, "ca-certificates", "2026-r0")
    made.file("etc/ssl/certs/ca-certificates.crt", certificate().encode() * random.randint(1, 3))
    if random.random() < 0.5:
        made.file("etc/ssl/certs/java/cacerts", trust_store(random))
    if random.random() < 0.5:
        made.file("var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem", b"bundle\n")
        made.file("kaniko/ssl/certs/ca-certificates.crt", b"bundle\n", 0o600)
    made.file("usr/local/share/ca-certificates/own.crt", certificate().encode())
    made.info["provides"] = ["own-certificates", "cmd:update=1"]
    return made


def odd_name(random):
    kind = random.randrange(8)
    if kind == 0:
        return "n" * random.choice([99, 100, 101, 120])
    if kind == 1:
        return "é" + random.choice(WORDS_OF_NAMES)
    if kind == 2:
        return random.choice(["a b", "#x", "with'quote", "-", "x.so", "~"])
    return random.choice(WORDS_OF_NAMES)


WORDS_OF_NAMES = "tool data README index lib cache main conf zone map list note".split()


def folder(random):
    parts = [random.choice(["usr/share", "opt", "usr/lib", "srv", "etc", "var/lib"])]
    parts += [odd_name(random) for _ in range(random.choice([0, 1, 1, 2, 3]))]
    return "/".join(parts)


def free(path, taken):
    """True where no file is on the way to `path`, and nothing at it."""
    parts = path.split("/")
    above = ["/".join(parts[:end]) for end in range(1, len(parts))]
    return path not in taken and all(taken.get(one, "directory") == "directory" for one in above)


def common(random, number_, shared, taken):
    """A package of files; `shared` are files of packages before it, to collide with on purpose."""
    made = Package(random, f"p{number_}-{random.choice(WORDS_OF_NAMES)}", f"{random.randint(0, 9)}.{random.randint(0, 20)}-r{random.randint(0, 3)}")
    made.info["origin"] = random.choice([made.name, made.name, "origin-one", "origin-two"])
    if random.random() < 0.3:
        made.info["pkgdesc"] = random.choice(["words; and a comment", 'say "hi"', "'quoted'", "a <b> & c"])
    made.info["url"], made.info["license"] = "https://packages.assay.test/", random.choice(["MIT", "GPL-2.0-only AND MIT"])
    if random.random() < 0.5:
        made.info["depend"] = ["base", "so:libc.so.6"][: random.randint(1, 2)]
    if random.random() < 0.2:
        made.info["install_if"] = f"base {made.name}-doc"
    if random.random() < 0.2:
        made.info["provider_priority"] = str(random.randint(0, 100))
    files = []
    for _ in range(random.randint(1, 9)):
        path = folder(random) + "/" + odd_name(random)
        # Now and then a conflict; a file in the place of a directory is left out, because the oracle keeps an
        # empty one where apko refuses it.
        wanted = taken.get(path) == "file" and random.random() < 0.02
        if (not free(path, taken) and not wanted) or path in made.directories:
            continue
        for end in range(1, path.count("/") + 1):
            taken["/".join(path.split("/")[:end])] = "directory"
        taken[path] = "file"
        kind = random.randrange(10)
        if kind < 7:
            xattrs = {"user.note": "vä1"} if random.random() < 0.1 else {}
            mode = random.choice([0o644, 0o644, 0o755, 0o4755, 0o2750, 0o600])
            made.file(path, content(random), mode, xattrs)
            files.append(path)
        elif kind == 7:
            made.symlink(path, random.choice(["/etc/passwd", "nowhere", "../" + odd_name(random), "t" * 101]))
        elif files:
            made.hard_link(path, random.choice(files))
        elif random.random() < 0.5:
            made.directory(path, random.choice([0o755, 0o700, 0o1777]))
    if random.random() < 0.2:
        made.file(f"{odd_name(random)}-{number_}-at-root", content(random))
    if shared and random.random() < 0.35:
        path, data, owner = random.choice(shared)
        if path not in made.directories and all(entry[1].rstrip("/") != path for entry in made.entries):
            same = random.random() < 0.5
            made.file(path, data if same else data + b"other")
            if not same and random.random() < 0.85:
                made.info["replaces"] = owner
    if random.random() < 0.3:
        for name in random.sample([".pre-install", ".post-install", ".pre-upgrade", ".trigger"], 2):
            made.script(name, random.choice([0o755, 0o755, 0o644]))
    if random.random() < 0.15:
        made.info["triggers"] = ["/usr/share/*", "/etc"][: random.randint(1, 2)]
    shared += [(entry[1], entry[3], made.name) for entry in made.entries if entry[0] == b"0" and len(entry[1]) < 90]
    return made


def paths(random, version, packages):
    """Changes of paths that apko allows in this version."""
    out = []
    files = [entry[1] for made in packages for entry in made.entries if entry[0] == b"0"]
    existing = [entry[1].rstrip("/") for made in packages for entry in made.entries if entry[0] in (b"0", b"5")]
    for place in range(random.choice([0, 0, 1, 2, 4])):
        kind = random.choice(["directory", "empty-file", "symlink", "hardlink", "permissions"])
        path = f"/{random.choice(['srv', 'opt', 'var/new'])}/made-{place}"
        if kind in ("permissions", "directory") and random.random() < 0.7:
            path = "/" + random.choice(existing)
            kind = "permissions"
        change = {"path": path, "type": kind, "permissions": random.choice([0o755, 0o700, 0o2755, 0o1777])}
        # A hard link to a directory: the oracle makes one, Assay refuses it (docs/SUPPORT.md).
        sources = files if kind == "hardlink" else existing
        change["source"] = "/" + random.choice(sources) if kind in ("symlink", "hardlink") else ""
        change["recursive"] = random.random() < 0.3
        if random.random() < 0.7:
            change["uid"] = random.choice([0, 33, 1000])
            change["gid"] = random.choice([0, 33, 1000])
        else:
            change["uid"] = change["gid"] = None
        out.append(change)
    return out


def configuration(random, version, architecture, packages):
    lines = sorted(f"{made.name}={made.version}" for made in packages)
    since = lambda text_: number(version) >= number(text_)
    config = {
        "contents": {"repositories": ["https://packages.assay.test/os"], "build_repositories": [],
                     "runtime_repositories": [], "keyring": [], "packages": lines},
        "entrypoint": {"type": "", "command": "", "shell-fragment": "", "services": {}},
        "cmd": random.choice(["", "run 'a b' c"]),
        "stop-signal": random.choice(["", "SIGQUIT"]), "work-dir": random.choice(["", "/srv"]),
        "accounts": {"run-as": "", "users": [], "groups": []},
        "archs": [architecture], "environment": {}, "paths": paths(random, version, packages),
        "vcs-url": "", "annotations": {}, "include": "", "volumes": [], "layering": None,
    }
    if since("0.15.0") and random.random() < 0.4:
        config["contents"]["build_repositories"] = ["https://packages.assay.test/extras"]
    if since("0.30.3") and random.random() < 0.3:
        config["contents"]["runtime_repositories"] = ["https://packages.assay.test/runtime"]
    if random.random() < 0.5:
        config["entrypoint"]["command"] = "/usr/bin/tool --flag 'one two'"
    elif random.random() < 0.3:
        config["entrypoint"]["shell-fragment"] = "exec tool <in >out && true"
    if random.random() < 0.2:
        config["entrypoint"]["services"] = {"web": "/usr/bin/web", "also": "sleep 1"}
    if random.random() < 0.5:
        user = {"username": "nonroot", "uid": 65532, "gid": random.choice([65532, 0, None]) if since("0.22.3") else 65532,
                "shell": random.choice(["", "/bin/ash"]) if since("0.14.1") else "",
                "homedir": random.choice(["", "/srv/home/deep", "/dev/null"]) if since("0.14.7") else ""}
        config["accounts"]["users"].append(user)
        config["accounts"]["groups"].append({"groupname": "nonroot", "gid": 65532, "members": random.choice([[], ["nonroot", "web"]])})
        config["accounts"]["run-as"] = random.choice(["nonroot", "65532", "root", "nobody-knows"])
    if random.random() < 0.5:
        config["environment"] = {"A": "<1>", "LANG": "C.UTF-8", **random.choice([{}, {"PATH": "/bin"}])}
    if random.random() < 0.5:
        config["annotations"] = {"org.opencontainers.image.title": "t & u", "x": "é\u2028", "org.opencontainers.image.vendor": random.choice(["v", ""])}
    if random.random() < 0.2:
        config["volumes"] = ["/var/data", "/a"]
    if since("0.26.0") and random.random() < 0.55:
        config["layering"] = {"strategy": "origin", "budget": random.choice([1, 2, 3, 5, 10])}
    if since("1.1.14") and random.random() < 0.4:
        config["certificates"] = {"additional": [{"name": "own", "content": "noise\n" + certificate()}], "providers": random.choice([[], ["own-certificates"]])}
    return config


def make(seed):
    """The packages and the configuration of one seed."""
    rng = random.Random(seed)
    version = VERSIONS[seed % len(VERSIONS)]
    architecture = rng.choice(sorted(ARCHITECTURES))
    _, machine = ARCHITECTURES[architecture]
    packages, shared, taken = [base(rng, version)], [], {}
    if rng.random() < 0.4:
        packages.append(busybox(rng))
    if rng.random() < 0.5:
        packages.append(libraries(rng, machine))
    if rng.random() < 0.4:
        packages.append(bundles(rng))
    for path in (path for made in packages for path in made.directories):
        taken[path.rstrip("/")] = "directory"
    for place in range(rng.randint(1, 7)):
        packages.append(common(rng, place, shared, taken))
    return rng, version, architecture, packages, configuration(rng, version, architecture, packages)


def case(arguments):
    oracle, out, seed = arguments
    sys.path.insert(0, oracle)
    import proto, vflags  # noqa: PLC0415

    rng, version, architecture, packages, config = make(seed)
    folder_ = os.path.join(out, f"{seed:05}")
    os.makedirs(folder_, exist_ok=True)
    files = [made.write(folder_, ARCHITECTURES[architecture][0]) for made in packages]
    epoch = rng.choice([None, None, TIME - 5])
    keys = {"one.rsa.pub": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} if rng.random() < 0.5 else {}
    result = {"version": version, "architecture": architecture, "config": copy.deepcopy(config), "keys": keys,
              "epoch": epoch, "packages": [os.path.basename(file) for file in files], "error": None}
    proto.sorted = go_sorted
    flags = vflags.flags(version)
    proto.VF.clear()
    proto.VF.update(flags)
    layering = config["layering"]
    proto.VF["layered"], proto.VF["opt"] = bool(layering), epoch or 0
    if layering is None:
        config.pop("layering")
    try:
        build = proto.Builder(config, architecture, out, bde_env=epoch, keys={name: data.encode() for name, data in keys.items()})
        records = build.install([proto.Apk(file) for file in files], epoch or 0)
        build.finish()
        layers = build.layers(records, layering["budget"]) if layering else [build.tar()]
        image, manifest, _ = proto.image(config, layers, build.bde(), architecture)
        index = proto.index(config, {architecture: manifest}, build.bde())
        result["diff_ids"] = [proto.sha(layer) for layer in layers]
        result["image"], result["manifest"], result["index"] = map(proto.sha, (image, manifest, index))
        if os.environ.get("DUMP"):
            for place, layer in enumerate(layers):
                with open(os.path.join(folder_, f"oracle-{place}.tar"), "wb") as file:
                    file.write(layer)
            with open(os.path.join(folder_, "oracle-image.json"), "wb") as file:
                file.write(image)
    except (proto.Err, FileNotFoundError, FileExistsError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - the oracle has no limits and no types
        shutil.rmtree(folder_)
        return seed, f"the oracle cannot: {type(error).__name__}: {error}"
    with open(os.path.join(folder_, "case.json"), "w") as file:
        json.dump(result, file, indent=1)
    return seed, result["error"]


def main():
    oracle, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    work = [(os.path.abspath(oracle), os.path.abspath(out), seed) for seed in range(first, first + count)]
    images, refused, skipped = 0, 0, []
    with multiprocessing.Pool(2) as pool:
        for seed, error in pool.imap_unordered(case, work):
            if error is None:
                images += 1
            elif error.startswith("the oracle cannot"):
                skipped.append((seed, error))
            else:
                refused += 1
    print(f"{images} images, {refused} refusals, {len(skipped)} that the oracle cannot do")
    for seed, error in sorted(skipped)[:20]:
        print(f"  {seed}: {error}")


if __name__ == "__main__":
    main()
