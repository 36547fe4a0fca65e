# `just` prints this list. Each recipe is a plain command that also works without just.

_default:
    @just --list --unsorted

# Compile everything.
check:
    cargo check --workspace --all-targets --locked

# Every test except long ones and measurements. SDKs of other languages are installed in target/ on first use.
test *args:
    cargo test --workspace --locked {{args}}

# The long tests: fuzzing, soak, outages, measured times (see CONTRIBUTING.md). Run as root.
long:
    ./.ci/run long

# 1,000,000 requests of many pods, some with forged tokens. It takes minutes.
cross-pod:
    cargo test --release --locked -p pod-identity-local --test cross_pod -- --ignored --nocapture

# Changes of a service account just before a pod is created apply to the pod, 300 times each. Run as root.
sequences:
    cargo test --locked -p pod-identity-webhook --test it -- --ignored --nocapture 300_times

# A Kubernetes control plane for one command: `just control-plane kubectl get namespaces`. Run as root.
control-plane *command:
    cargo run --locked -p testing --features cluster --example control-plane -- {{command}}

# A Kubernetes node, for one command or until Ctrl-C: `just node kubectl get pods -A`. Run as root.
node *command:
    cargo run --locked -p testing --features cluster --example node -- {{command}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

# Mutation tests of the core: for each mutation a test must fail (see CONTRIBUTING.md).
mutants *args:
    cargo mutants --package pod-identity-core {{args}}

# loom tests of the cache: every order of the threads' steps (see CONTRIBUTING.md).
interleavings:
    RUSTFLAGS="--cfg loom" cargo test --locked -p pod-identity-core --lib --target-dir target/loom interleavings

# Runs one fuzz target for some seconds. It needs cargo-fuzz.
fuzz name seconds="60":
    mkdir -p target/fuzz/found/{{name}}
    RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none --target-dir target/fuzz {{name}}
    target/fuzz/*/release/{{name}} target/fuzz/found/{{name}} fuzz/corpus/{{name}} -max_total_time={{seconds}} -rss_limit_mb=2048 -max_len=8192 -artifact_prefix=target/fuzz/found/{{name}}-

# Adds the inputs that `fuzz` found to the corpus of a target, and keeps the smallest set with the same coverage.
fuzz-minimize name:
    mkdir -p target/fuzz/minimal && rm -rf target/fuzz/minimal/{{name}} && mkdir target/fuzz/minimal/{{name}}
    target/fuzz/*/release/{{name}} -merge=1 target/fuzz/minimal/{{name}} fuzz/corpus/{{name}} target/fuzz/found/{{name}}
    rm -rf fuzz/corpus/{{name}} && mv target/fuzz/minimal/{{name}} fuzz/corpus/{{name}}

# Memory and descriptors of agent and auth service under load (see CONTRIBUTING.md).
soak *args:
    cargo run --release --locked -p benches -- soak {{args}}

# Accepts changes of the libraries' public APIs: writes public-api.txt.
public-api:
    UPDATE_PUBLIC_API=1 cargo test --locked -p testing --test public_api

# Measurements as ratios, by name or `all` (see CONTRIBUTING.md).
bench +names:
    cargo run --release --locked -p benches -- {{names}}

# Instruction counts of the hot path against the recorded ones. `just counts --write` records new ones.
counts *args:
    cargo run --release --locked -p benches --no-default-features --bin counts -- {{args}}

# The checks that must pass before a change is merged.
ci:
    ./.ci/run
