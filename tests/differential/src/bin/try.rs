use datapool_store::*;
use std::time::Duration;
fn main() {
    let d = tempfile::tempdir().unwrap();
    for vacuum in [false, true] {
        for tracked in [false, true] {
            let clock = ManualClock::starting_at("2026-01-01".parse().unwrap());
            let store = StoreOptions::new()
                .clock(clock.clone())
                .open(d.path().join(format!("{vacuum}{tracked}")))
                .unwrap();
            let pool = store.create_pool("orders").unwrap();
            let key = |o: &&str| Key::new(37, o.to_string());
            let s = Duration::from_secs(1);
            let token = pool.claim(&["a", "b"], key, &Origin::none(), s).unwrap().into_token().unwrap();
            clock.advance(2 * s);
            let mut other = pool.claim(&["a"], key, &Origin::none(), s).unwrap();
            if tracked {
                let _ = other.confirm().unwrap();
                pool.clear().unwrap();
            } else {
                other.release().unwrap();
            }
            if vacuum {
                store.vacuum().unwrap();
            }
            let mut claim = store.resume_claim(&token).unwrap();
            println!("vacuum {vacuum} tracked {tracked}: {:?}", claim.verdicts());
            println!(
                "   by key {:?}",
                claim.confirm_keys(&[Key::new(37, "a")]).map(|c| c.outcomes().to_vec())
            );
            println!("   by index {:?}", claim.confirm_items(&[0]).map(|c| c.outcomes().to_vec()));
        }
    }
}
