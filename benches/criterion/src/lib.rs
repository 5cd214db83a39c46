//! The benches are in `benches/`: `cargo bench -p datapool-benches`.
