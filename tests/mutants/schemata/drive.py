"""All mutants of a list in one test binary, each run until its first failing test.

drive.py LIST TREE CRATE PACKAGE OUT [FILTER]: LIST is of `cargo mutants --list --json`, TREE the tree that it was made
of, CRATE the folder of the crate in it, OUT where everything goes: OUT/results has a line for each mutant (its number,
what became of it, seconds, the first failing test, its name). A second call goes on where the first stopped.

Invariant: a mutant that does not compile as a switch is `left`, never "unviable": only an error inside of its own text
makes it that. `left` ones are for the stock tool. Without any mutant every test must pass first.
"""
import json, os, re, resource, shutil, signal, subprocess, sys, time
from pathlib import Path

LIST, TREE, CRATE, PACKAGE, OUT = sys.argv[1:6]
FILTER = sys.argv[6:]
OUT, HERE = Path(OUT), Path(__file__).parent
SKIP = os.environ.get("SKIP", "sabotage shrinks replays").split()
WORKERS = int(os.environ.get("WORKERS", "1"))
# Seconds of processor, of sleep of all threads, of anything, and bytes, after which a run counts as
# endless: without a mutant it takes ten seconds of processor.
CPU, IDLE, WALL, MEMORY = 45, 30, 180, 6 << 30
ROUNDS = 40  # Each round of compiling finds the errors of one phase of the compiler.
MODULE = "mod mutant;\n"
SWITCH = """//! Which mutant is on.
static ACTIVE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
pub(crate) fn active() -> u32 {
    let number = || std::env::var("ASSAY_MUTANT").ok().and_then(|n| n.parse().ok());
    *ACTIVE.get_or_init(|| number().unwrap_or(0))
}
"""


def sh(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def write_switches(tree, left):
    (OUT / "left").write_text("\n".join(left))
    tool = HERE / "Cargo.toml"
    done = sh("cargo", "run", "-q", "--manifest-path", tool, "--", LIST, TREE, tree, OUT / "left")
    if done.returncode:
        sys.exit(done.stderr)
    return [line.split() for line in done.stdout.splitlines() if line]


def compile_tests(tree):
    env = dict(os.environ, RUSTFLAGS="--cap-lints=warn")
    level = f"profile.dev.package.{PACKAGE}.opt-level=1"
    command = ["cargo", "test", "-p", PACKAGE, "--lib", "--no-run", "--message-format=json", "--config", level]
    done = sh(*command, cwd=tree, env=env)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    messages = [m["message"] for m in said if m["reason"] == "compiler-message"]
    errors = [m for m in messages if m["level"] == "error" and m["spans"]]
    binary = [m["executable"] for m in said if m.get("executable")]
    return done, errors, binary[-1] if binary else None


def smallest(places, span):
    """What is written in the fewest lines around an error."""
    around = [(last - first, what) for file, first, last, what in places
              if file == span["file_name"] and first <= span["line_start"] and span["line_end"] <= last]
    return min(around)[1] if around else None


def build():
    """The test binary; the mutants that it holds, the unviable ones, and those that are left."""
    tree, fate, stay_const = OUT / "tree", {}, set()
    files = {m["file"] for m in json.load(open(LIST))}
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(TREE, tree)
    (tree / CRATE / "src/mutant.rs").write_text(SWITCH)
    lib = tree / CRATE / "src/lib.rs"
    for _ in range(ROUNDS):
        lines = write_switches(tree, [str(n) for n in fate] + sorted(stay_const))
        lib.write_text(lib.read_text().removesuffix(MODULE) + MODULE)
        alternatives = [(w[2], int(w[3]), int(w[4]), int(w[1])) for w in lines if w[0] == "A"]
        switches = [(w[1], int(w[2]), int(w[3]), list(map(int, w[4].split(",")))) for w in lines if w[0] == "S"]
        done, errors, binary = compile_tests(tree)
        if done.returncode == 0:
            for word in lines:
                if word[0] == "L":  # `||` in a `let` chain is no Rust.
                    fate[int(word[1])] = "unviable" if word[2] == "let-chain" else "left"
            return binary, [n for *_, n in alternatives], fate
        before = len(fate) + len(stay_const)
        for error in errors:
            if (error["code"] or {}).get("code") == "E0015":  # A function that a constant needs.
                name = re.findall(r"\w+", error["message"].split("`")[1])[-1]
                stay_const |= {f"{file}:{name}" for file in files}
                continue
            spans = sorted(error["spans"], key=lambda span: not span["is_primary"])
            own = [n for n in (smallest(alternatives, span) for span in spans) if n]
            for n in own[:1] or smallest(switches, spans[0]) or []:
                fate.setdefault(n, "unviable" if own else "left")
        if len(fate) + len(stay_const) == before:
            sys.exit("".join(e["rendered"] for e in errors) or done.stderr)
        print(f"{len(fate)} are not in it", flush=True)
    sys.exit("it does not compile")


def limits():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setsid()


def looks(pid):
    """Whether a thread runs or wants to, and the ticks that all have used."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    stats = [stat.read_text().rsplit(")", 1)[1].split() for stat in stats]
    return any(s[0] in "RD" for s in stats), sum(int(s[11]) + int(s[12]) for s in stats)


def run(binary, number):
    # libtest stops at the first failing test where unstable options are allowed.
    env = dict(os.environ, ASSAY_MUTANT=str(number), RUST_TEST_THREADS="1", RUSTC_BOOTSTRAP="1")
    skip = [word for name in SKIP for word in ("--skip", name)]
    command = [binary, "-Zunstable-options", "--fail-fast", *FILTER, *skip]
    with open(OUT / f"said-{number}", "w+") as said:
        folder = OUT / "tree" / CRATE
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said, preexec_fn=limits)
        idle, last, step, ends = 0, None, 0.02, time.time() + WALL
        while child.poll() is None and idle < IDLE and time.time() < ends:
            time.sleep(step)
            try:
                busy, ticks = looks(child.pid)
            except OSError:
                continue
            idle = 0 if busy or ticks != last else idle + step
            last, step = ticks, min(step * 1.5, 1)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        said.seek(0)
        failed = [line.split()[1] for line in said if re.match(r"test .*FAILED$", line)]
    os.remove(said.name)
    if child.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        return "timeout", "-"
    if child.returncode == 0:
        return "survived", "-"
    return "killed", failed[0] if failed else f"exit {child.returncode}"


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    names = [m["name"] for m in json.load(open(LIST))]
    binary, mutants, fate = build()
    if run(binary, 0)[0] != "survived":
        sys.exit("expected every test to pass without a mutant")
    results = OUT / "results"
    done = {int(line.split("\t")[0]) for line in open(results)} if results.exists() else set()
    with open(results, "a") as out:
        for n, what in sorted(fate.items()):
            if n not in done:
                out.write(f"{n}\t{what}\t0\t-\t{names[n - 1]}\n")
    todo = [n for n in mutants if n not in done]
    worker = next((w for w in range(1, WORKERS) if os.fork() == 0), 0)
    for n in todo[worker::WORKERS]:
        began = time.time()
        what, test = run(binary, n)
        with open(results, "a") as out:
            out.write(f"{n}\t{what}\t{time.time() - began:.1f}\t{test}\t{names[n - 1]}\n")
    if worker == 0:
        for _ in range(1, WORKERS):
            os.wait()


main()
