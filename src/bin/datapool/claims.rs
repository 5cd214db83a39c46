//! Claims: listing and releasing what runners hold.

use clap::Args;
use datapool_store::{ClaimFilter, ClaimInfo, ErrorKind};
use serde::Serialize;

use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::open::{self, StoreFile};
use crate::output::{self, or_dash};
use crate::rehearsal;

#[derive(Debug, Args)]
pub(crate) struct Claims {
    /// The pool's id or name
    pool: String,
    /// Only the claims of this owner
    #[arg(long, value_name = "O", value_parser = rehearsal::owner)]
    owner: Option<String>,
    /// Release the claim with this id: its values are new again
    #[arg(long, value_name = "ID")]
    release: Option<u64>,
    /// Release all claims, or all claims of the owner
    #[arg(long, conflicts_with = "release")]
    release_all: bool,
}

impl Claims {
    /// Returns the filter for the claims to release, or `None` to list claims.
    fn released(&self) -> Option<ClaimFilter> {
        let mut filter = match self.release {
            Some(id) => ClaimFilter::new().id(id),
            None if self.release_all => ClaimFilter::all(),
            None => return None,
        };
        if let Some(owner) = &self.owner {
            filter = filter.owner(owner);
        }
        Some(filter)
    }
}

#[derive(Serialize)]
struct Released {
    released: u64,
}

pub(crate) fn run(file: &StoreFile, arguments: &Claims, format: Format) -> Result<(), Failure> {
    let Some(filter) = arguments.released() else { return list(file, arguments, format) };
    let released =
        open::to_write(file, |store| Ok(open::pool(store, file, &arguments.pool)?.release_claims(&filter)?))?;
    if released == 0
        && let Some(id) = arguments.release
    {
        return Err(Failure::of(
            ErrorKind::NotFound,
            format!(
                "data pool {:?} has no open claim {id}{}; `claims` lists the open ones",
                arguments.pool,
                arguments.owner.as_ref().map(|owner| format!(" of {owner:?}")).unwrap_or_default()
            ),
        ));
    }
    match format {
        Format::Json => output::json(&Released { released }),
        Format::Human => output::lines([format!("released {}", output::number_of(released, "claim"))]),
    }
}

fn list(file: &StoreFile, arguments: &Claims, format: Format) -> Result<(), Failure> {
    let mut claims = open::to_read(file, |store| Ok(open::pool(store, file, &arguments.pool)?.claims()?))?;
    if arguments.owner.is_some() {
        claims.retain(|claim| claim.owner == arguments.owner);
    }
    if format == Format::Json {
        return output::json(&claims);
    }
    let mut grid = Grid::new([
        Column::Number("id"),
        Column::Text("owner"),
        Column::Number("items"),
        Column::Text("flow"),
        Column::Text("run"),
        Column::Text("step"),
        Column::Text("since (UTC)"),
        Column::Text("until (UTC)"),
    ]);
    for claim in &claims {
        grid.row(cells(claim));
    }
    output::lines([grid.to_string(), output::number_of(claims.len() as u64, "claim")])
}

fn cells(claim: &ClaimInfo) -> [String; 8] {
    let until = output::time(claim.until);
    [
        claim.id.to_string(),
        or_dash(claim.owner.as_ref()),
        output::count(claim.items),
        or_dash(claim.origin.flow()),
        or_dash(claim.origin.run()),
        or_dash(claim.origin.step()),
        output::time(claim.since),
        if claim.is_lapsed { format!("{until}, expired") } else { until },
    ]
}
