//! A nightly product sync: each night brings a file of all products, and only what has changed goes on to the
//! shop.
//!
//! It runs twice. By **content**, a product passes if it differs from the last time. By **ordinal**, it
//! passes if it is newer than the last time. The third night shows the difference: the first night's file
//! arrives again, late.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin, Pool, Result};

const PRODUCTS: EntityTypeId = EntityTypeId::new(54);
/// The number of products per call.
const BATCH: usize = 10_000;

/// A row of a night's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    sku: String,
    name: String,
    cents: u64,
    /// The night on which the row was last changed.
    updated_at: i64,
}

/// Returns the file of a night. On the second night, one product in a hundred has another price.
fn file(night: i64, products: u64) -> impl Iterator<Item = Product> {
    (0..products).map(move |number| {
        let is_changed = night == 2 && number % 100 == 7;
        Product {
            sku: format!("SKU-{number:06}"),
            name: format!("Product {number}"),
            cents: 1_000 + number % 500 + if is_changed { 50 } else { 0 },
            updated_at: if is_changed { 2 } else { 1 },
        }
    })
}

/// The shop's products, by SKU.
type Shop = BTreeMap<String, Product>;

/// The version by which a product is compared.
#[derive(Debug, Clone, Copy)]
enum By {
    Content,
    Ordinal,
}

impl By {
    fn key(self, product: &Product) -> Key<'_> {
        let key = Key::new(PRODUCTS, &product.sku);
        match self {
            // The fields that matter to the shop, in a fixed form.
            Self::Content => key.content(format!("{}\n{}", product.name, product.cents)),
            Self::Ordinal => key.ordinal(product.updated_at),
        }
    }
}

/// Passes on the new and changed products of a night's file. Returns the number of each.
fn sync(pool: &Pool, by: By, run: &str, file: &[Product], shop: &mut Shop) -> Result<(usize, usize)> {
    let origin = Origin::new("product sync", run, "read file");
    let (mut new, mut changed) = (0, 0);
    for batch in file.chunks(BATCH) {
        // If the shop can refuse products, claim the batch instead, and confirm what the shop took. See the
        // guide on modes.
        let verdicts = pool.dedupe(Mode::FilterAndTrack, batch, |product| by.key(product), &origin)?;
        new += verdicts.new_count();
        changed += verdicts.changed_count();
        for product in verdicts.pass_on(batch) {
            shop.insert(product.sku.clone(), product.clone());
        }
    }
    Ok((new, changed))
}

/// Syncs three nights by content and by ordinal, with a store at this path, and prints what happened.
///
/// # Errors
///
/// The errors of the store.
///
/// # Panics
///
/// Panics if `out` cannot be written to.
#[allow(clippy::unwrap_used, reason = "an example that cannot print stops")]
pub fn run(store: &Path, products: u64, out: &mut impl Write) -> Result<()> {
    let store = DataPoolStore::open(store)?;
    let newest: Shop = file(2, products).map(|product| (product.sku.clone(), product)).collect();
    for (by, name) in [(By::Content, "by content"), (By::Ordinal, "by ordinal")] {
        writeln!(out, "{name}").unwrap();
        let pool = store.get_or_create_pool(name)?;
        let mut shop = Shop::new();
        let nights = [(1, "night 1"), (2, "night 2"), (1, "night 3 (the file of night 1)")];
        for (number, night) in nights {
            let file: Vec<Product> = file(number, products).collect();
            let (new, changed) = sync(&pool, by, night, &file, &mut shop)?;
            writeln!(out, "  {night}: {new} new, {changed} changed").unwrap();
        }
        let stale = newest.iter().filter(|(sku, product)| shop.get(*sku) != Some(product)).count();
        let stats = pool.stats()?;
        writeln!(out, "  the shop has {} products, {stale} of them out of date", shop.len()).unwrap();
        writeln!(out, "  the pool has {} records, and {} that were replaced", stats.live, stats.deleted)
            .unwrap();
    }
    Ok(())
}
