# The everyday commands. `just` alone lists them.

_default:
    @just --list

# Everything that must pass before a change lands
ci:
    .ci/run

# Format the code
fmt:
    cargo fmt

# Lints, as strict as .ci/run
lint:
    cargo clippy --locked --all-targets -- -D warnings

# The documentation, without warnings
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

# All tests, or those that match a filter
test *filter:
    cargo test {{filter}}

# The integration tests of a command or subject, such as `just it pack::`
it filter="":
    cargo test --test it {{filter}}

# Accept the terminal output as it is now
snapshots:
    INSTA_UPDATE=always cargo test --test it snapshots

# Write the terminal output as it is now into README and docs/, and record the terminal again
docs:
    INSTA_UPDATE=always cargo test --test it docs::

# Licences, advisories and sources of the dependencies
deny:
    cargo deny check

# What the program of a release is built of, as CycloneDX: kindpack.cdx.json
sbom:
    SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" cargo cyclonedx --format json --spec-version 1.5
    sed -i 's|path+file://{{justfile_directory()}}|path+file:///kindpack|g' kindpack.cdx.json

# Fuzz each target for so many seconds, or those that are named
fuzz seconds="60" *targets:
    fuzz/run {{seconds}} {{targets}}

# A benchmark: throughput or cloud
bench name="throughput":
    cargo bench --bench {{name}}
