//! Runs the fuzz targets on inputs. The store's tests replay seeds through the same code on stable Rust.

#![allow(dead_code, unused_imports, reason = "of the tests' rooms, only what the bodies use")]

#[path = "../../tests/it/format.rs"]
mod format;
#[path = "../../tests/it/fuzzing/mod.rs"]
mod fuzzing;
#[path = "../../tests/json/payload.rs"]
mod json_payload;
#[path = "../../tests/it/support/mod.rs"]
mod support;
#[path = "../../tests/it/workload/mod.rs"]
mod workload;

/// Runs the body of a target on an input.
///
/// # Panics
///
/// Panics if the store misbehaves, or if there is no such target.
pub fn run(target: &str, bytes: &[u8]) {
    let with_features: [(&str, fuzzing::Body); 1] = [("json_payload", json_payload::run)];
    let mut targets = fuzzing::TARGETS.iter().chain(&with_features);
    let (_, body) = targets.find(|(name, _)| *name == target).expect("a target of that name");
    body(bytes);
}

/// Replaces libFuzzer's panic hook, which aborts at every panic, even at panics of the storage that the store
/// contains. With this, only a panic that reaches the target's body is a finding.
pub fn let_contained_panics_pass() {
    std::panic::set_hook(Box::new(|_| ()));
}
