//! `product-sync [PRODUCTS]`: syncs this number of products (300,000 by default), with a store in the
//! system's temporary directory.

use std::process::ExitCode;

fn main() -> ExitCode {
    let products = match std::env::args().nth(1).map_or(Ok(300_000), |number| number.parse()) {
        Ok(products) => products,
        Err(error) => {
            eprintln!("product-sync: the number of products: {error}");
            return ExitCode::from(2);
        }
    };
    let path = std::env::temp_dir().join(format!("product-sync-{}.redb", std::process::id()));
    let done = product_sync::run(&path, products, &mut std::io::stdout().lock());
    // The store is closed, so the file is not needed any more.
    let _ = std::fs::remove_file(&path);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("product-sync: {error}");
            ExitCode::FAILURE
        }
    }
}
