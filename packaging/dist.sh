#!/bin/sh
# Builds the hub as it should be shipped: once with counters in it, which two of the benchmarks then drive, and once more for what was
# counted (profile-guided), with all crates optimised together (link-time).
#
#   packaging/dist.sh                           builds target/dist/busway
#   packaging/dist.sh bench --bench calls ...   runs a benchmark that is built like it
#
# Both want Linux, rustup, half an hour on two cores the first time, and no other load while the benchmarks run.
set -eu
cd "$(dirname "$0")/.."
target=$(mkdir -p "${TARGET:-target}" && cd "${TARGET:-target}" && pwd)
counting=$target/dist-counting
host=$(rustc --print host-tuple)
for_host=CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS

# cargo_with DIRECTORY FLAGS COMMAND ...: with a target named, the flags are for the program, and not for what runs to build it.
cargo_with() {
    directory=$1 flags=$2 command=$3
    shift 3
    env CARGO_TARGET_DIR="$directory" "$for_host=$flags" \
        cargo "$command" --locked --package busway --profile dist --target "$host" "$@"
}

# What is not driven here is compiled to be small: let it be all that a hub at work does. With the same profile as what is shipped: its
# settings are part of the names of functions, by which the counts are found again.
count() {
    rustup component add llvm-tools
    rm -rf "$counting/counts"
    with_counters() { cargo_with "$counting" "-Cprofile-generate=$counting/counts" bench "$@"; }
    with_counters --no-run --bench calls --bench hub
    with_counters --bench calls -- --profile-time 3
    with_counters --bench hub -- fanout live durable replay pipeline reload
    "$(rustc --print target-libdir)/../bin/llvm-profdata" merge --output "$profile.new" "$counting/counts"
    mv "$profile.new" "$profile"
}

# Counts of other code are no use. Named after the code: cargo sees the name, and not what is in the file.
code=$(find host/src host/benches Cargo.lock Cargo.toml host/Cargo.toml rust-toolchain.toml -type f | LC_ALL=C sort | xargs cat | cksum | cut -d ' ' -f 1)
profile=$target/dist-$code.profdata
[ -f "$profile" ] || count

if [ $# -gt 0 ]; then
    cargo_with "$target/dist-build" "-Cprofile-use=$profile" "$@"
else
    cargo_with "$target/dist-build" "-Cprofile-use=$profile" build --bin busway
    mkdir -p "$target/dist"
    cp "$target/dist-build/$host/dist/busway" "$target/dist/busway.new"
    mv "$target/dist/busway.new" "$target/dist/busway"
    echo "$target/dist/busway"
fi
