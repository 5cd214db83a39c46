//! A flow that fails half-way and runs again. It shows what each way of deduplicating loses or does twice.
//!
//! ```sh
//! cargo run --release --example failing_flow
//! ```
//!
//! Ten orders must be delivered. The first run fails after four of them. The second run gets the same ten
//! orders, and nothing fails. Three flows do this: one tracks before the work, one tracks after it, and one
//! claims. A second runner that overlaps with the first shows the gap in the second way.

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin, Pool, Result};

const ORDERS: EntityTypeId = EntityTypeId::new(37);
const LEASE: Duration = Duration::from_mins(5);

/// The number of times that each order was delivered.
type Deliveries = BTreeMap<String, usize>;

/// The receiver of the orders, which breaks down after a number of deliveries.
struct Receiver {
    deliveries: Deliveries,
    left: usize,
}

impl Receiver {
    fn breaking_after(deliveries: usize) -> Self {
        Self { deliveries: Deliveries::new(), left: deliveries }
    }

    fn repair(&mut self) {
        self.left = usize::MAX;
    }

    /// Delivers an order. Returns true if that worked.
    fn deliver(&mut self, order: &str) -> bool {
        let works = self.left > 0;
        if works {
            self.left -= 1;
            *self.deliveries.entry(order.to_owned()).or_default() += 1;
        }
        works
    }
}

fn key(order: &String) -> Key<'_> {
    Key::new(ORDERS, order)
}

/// Tracks new orders, then delivers them. Orders that are not delivered stay tracked.
fn track_then_deliver(
    pool: &Pool,
    orders: &[String],
    receiver: &mut Receiver,
    origin: &Origin,
) -> Result<()> {
    let fresh = pool.dedupe(Mode::FilterAndTrack, orders, key, origin)?.pass_on(orders);
    let _ = fresh.into_iter().all(|order| receiver.deliver(order));
    Ok(())
}

/// Delivers new orders, then tracks them. A runner that checks in between delivers them again.
fn deliver_then_track(
    pool: &Pool,
    orders: &[String],
    receiver: &mut Receiver,
    origin: &Origin,
    meanwhile: impl FnOnce(&mut Receiver) -> Result<()>,
) -> Result<()> {
    let fresh = pool.dedupe(Mode::Filter, orders, key, origin)?.pass_on(orders);
    let delivered: Vec<&String> = fresh.into_iter().take_while(|order| receiver.deliver(order)).collect();
    meanwhile(receiver)?;
    let _verdicts = pool.dedupe(Mode::Track, &delivered, |order| key(order), origin)?;
    Ok(())
}

/// Claims new orders, delivers them, and confirms each delivered one. The rest is released.
fn claim_and_deliver(pool: &Pool, orders: &[String], receiver: &mut Receiver, origin: &Origin) -> Result<()> {
    let mut claim = pool.claim(orders, key, origin, LEASE)?;
    let held: Vec<(usize, String)> =
        claim.keys().map(|(index, key)| (index, key.value().to_owned())).collect();
    for (index, order) in held {
        if !receiver.deliver(&order) {
            // The claim is dropped here. Items that it still holds are new for the next run.
            return Ok(());
        }
        claim.confirm_items(&[index])?.all_confirmed()?;
    }
    Ok(())
}

fn report(way: &str, orders: &[String], receiver: &Receiver) -> (usize, usize) {
    let times = |order: &String| receiver.deliveries.get(order).copied().unwrap_or_default();
    let lost = orders.iter().filter(|order| times(order) == 0).count();
    let twice = orders.iter().filter(|order| times(order) > 1).count();
    println!("{way:40} {:2} delivered, {lost} lost, {twice} delivered twice", receiver.deliveries.len());
    (lost, twice)
}

fn main() -> Result<()> {
    let store = DataPoolStore::in_memory()?;
    let orders: Vec<String> = (1..=10).map(|number| format!("A-{number}")).collect();
    let run = |number: u64| Origin::new("shop", number, "deliver");

    let pool = store.get_or_create_pool("tracked before the work")?;
    let mut receiver = Receiver::breaking_after(4);
    track_then_deliver(&pool, &orders, &mut receiver, &run(1))?;
    receiver.repair();
    track_then_deliver(&pool, &orders, &mut receiver, &run(2))?;
    let before = report("track, then work", &orders, &receiver);

    let pool = store.get_or_create_pool("tracked after the work")?;
    let mut receiver = Receiver::breaking_after(4);
    // Another run starts before the first one has tracked its deliveries.
    deliver_then_track(&pool, &orders, &mut receiver, &run(1), |receiver| {
        receiver.repair();
        deliver_then_track(&pool, &orders, receiver, &run(2), |_| Ok(()))
    })?;
    let after = report("work, then track, two runs overlapping", &orders, &receiver);

    let pool = store.get_or_create_pool("claimed")?;
    let mut receiver = Receiver::breaking_after(4);
    claim_and_deliver(&pool, &orders, &mut receiver, &run(1))?;
    receiver.repair();
    claim_and_deliver(&pool, &orders, &mut receiver, &run(2))?;
    // A third run finds nothing left to do.
    claim_and_deliver(&pool, &orders, &mut receiver, &run(3))?;
    let claimed = report("claim, work, confirm", &orders, &receiver);

    assert_eq!((before, after, claimed), ((6, 0), (0, 4), (0, 0)), "(lost, twice) of each way");
    Ok(())
}
