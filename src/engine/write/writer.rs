//! What only the caller that leads a group touches.

use std::collections::{BTreeSet, HashMap};

use crate::engine::format::schema::{Fingerprint, SegmentNumber};
use crate::engine::probe::membership::Filter;
use crate::engine::write::append::KnownOrigins;
use crate::engine::write::fold::Fold;
use crate::engine::write::fold::entries::Entries;
use crate::engine::write::fold::runs::RunMerge;
use crate::engine::write::log::{Event, log};
use crate::ids::PoolId;

/// What only the caller that leads a group touches.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) pools: HashMap<PoolId, WriterPool>,
    /// Pools with folds to finish, filters to build, segments to drop.
    pub(crate) work: BTreeSet<PoolId>,
    /// What the commit that was just published did.
    pub(crate) events: Vec<Event>,
}

impl Writer {
    /// After a failure: what was remembered may be of a transaction that never was.
    pub(crate) fn forget(&mut self) {
        self.pools.clear();
    }

    /// Tells what the last commit did, with nothing locked that readers need.
    pub(crate) fn log_events(&mut self) {
        self.events.drain(..).for_each(|event| log(&event));
    }
}

/// What the writer remembers of a pool. All of it can be forgotten at any time: it is made again.
#[derive(Debug, Default)]
pub(crate) struct WriterPool {
    pub(crate) fold: Option<Folding>,
    pub(crate) merge: Option<RunMerge>,
    pub(crate) filter: Option<FilterBuild>,
    pub(crate) origins: KnownOrigins,
}

/// The fold of a frozen tail.
#[derive(Debug)]
pub(crate) enum Folding {
    /// Its entries are being gathered.
    Gathering(Entries),
    Writing(Fold),
}

/// The membership filter of a sealed segment, being built a slice per commit.
#[derive(Debug)]
pub(crate) struct FilterBuild {
    pub(crate) segment: SegmentNumber,
    pub(crate) filter: Filter,
    pub(crate) next: Fingerprint,
}
