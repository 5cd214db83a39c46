//! The rules that decide an item, shared by all engines.
//!
//! Owns: [`KeyState`], the input of a verdict, and the rules. Must not know: where records and owners are
//! looked up.

use std::collections::HashMap;

use super::claims::ClaimId;
use super::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::dedupe::{Mode, Verdict};
use crate::ids::RecordNumber;
use crate::model::Version;

/// The live records of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveRecords {
    /// The ids, ascending.
    pub(crate) ids: Vec<RecordNumber>,
    /// The version of the newest record, which is the version of the key.
    pub(crate) version: Option<Version>,
}

impl LiveRecords {
    /// Returns true if an item of the key with this version would be a duplicate.
    pub(crate) fn contain(&self, asked: Option<Version>) -> bool {
        !self.ids.is_empty() && !Version::changes(asked, self.version)
    }

    /// Returns true if the records alone decide an item of the key while a claim on it runs. They do not for
    /// a content version, because the claim may replace the record that has it.
    pub(crate) fn answer_under_claim(&self, asked: Option<Version>) -> bool {
        self.contain(asked) && !Version::is_content(asked)
    }
}

/// The owner of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    None,
    /// A claim whose lease has expired. Callers may no longer see the claim, but its row still exists.
    Lapsed,
    Running(ClaimId),
}

/// The state of a key after the items of a batch so far.
#[derive(Debug)]
pub(crate) struct KeyState {
    /// The live records of the key. Once an item of the batch has passed, these are that item's record, or
    /// none if the mode does not track.
    pub(crate) live: LiveRecords,
    pub(crate) owner: Owner,
    /// True once an item of the batch has passed.
    pub(crate) is_of_batch: bool,
    /// The ordinal that the owner claimed. It is set where the mode tracks in spite of claims.
    pub(crate) claimed: Option<i64>,
}

impl KeyState {
    pub(crate) fn new(live: LiveRecords, owner: Owner) -> Self {
        Self { live, owner, is_of_batch: false, claimed: None }
    }

    /// Decides the next item of the key.
    pub(crate) fn decide(&self, mode: Mode, asked: Option<Version>) -> Verdict {
        let is_known = self.is_of_batch || !self.live.ids.is_empty();
        let passes = !is_known || Version::changes(asked, self.live.version);
        let is_held = match (self.owner, mode) {
            // An item older than the claimed one must not take the key away from it.
            (Owner::Running(_), Mode::Track) => passes && self.is_older_than_claimed(asked),
            (Owner::Running(_), _) => !self.live.answer_under_claim(asked),
            (Owner::None | Owner::Lapsed, _) => false,
        };
        let replaced = self.live.ids.last().filter(|_| !self.is_of_batch);
        match (is_held, passes, is_known) {
            (true, ..) => Verdict::InFlight,
            (false, false, _) => Verdict::Duplicate,
            (false, true, false) => Verdict::New,
            (false, true, true) => Verdict::Changed { previous: replaced.map(|id| (*id).into()) },
        }
    }

    /// Returns the record that a verdict names: the first record of a duplicate, or the previous record of a
    /// changed item.
    pub(crate) fn named_by(&self, verdict: Verdict) -> Option<RecordNumber> {
        match verdict {
            Verdict::Duplicate => self.live.ids.first().copied(),
            Verdict::Changed { previous } => previous.map(crate::ids::RecordId::get),
            Verdict::New | Verdict::InFlight => None,
        }
    }

    fn is_older_than_claimed(&self, asked: Option<Version>) -> bool {
        match (asked, self.claimed) {
            (Some(Version::Ordinal(asked)), Some(claimed)) => asked < claimed,
            _ => false,
        }
    }

    /// Returns the state of an item of the key before it is claimed.
    pub(crate) fn standing(&self, asked: Option<Version>) -> Standing {
        let records = &self.live;
        match (self.owner, records.ids.first(), records.ids.last()) {
            (Owner::Running(id), ..) if !records.answer_under_claim(asked) => Standing::Owned(id),
            (_, Some(first), _) if records.contain(asked) => Standing::Tracked(*first),
            (_, _, Some(newest)) => Standing::Changes(*newest),
            (_, _, None) => Standing::Free,
        }
    }
}

/// The state of an item before it is claimed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Standing {
    #[default]
    Free,
    /// Free. The item changes the key, and this is the key's newest record.
    Changes(RecordNumber),
    Tracked(RecordNumber),
    /// Owned by a claim whose lease is running.
    Owned(ClaimId),
}

/// The verdict on an item to be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claiming {
    /// The claim takes the item. `seen` is the newest record of its key; 0 if there is none.
    Takes {
        seen: RecordNumber,
    },
    /// An item of the same batch has the same key and version.
    Repeats,
    /// The same claim holds the key with another version.
    InFlightHere,
    Tracked(RecordNumber),
    Owned(ClaimId),
}

/// The keys that a claim takes, each with its version.
#[derive(Debug, Default)]
pub(crate) struct Taken(HashMap<Fingerprint, Option<Version>, BuildFingerprintHasher>);

impl Taken {
    /// Decides the next item of the batch.
    pub(crate) fn decide(
        &mut self,
        fingerprint: Fingerprint,
        asked: Option<Version>,
        standing: Standing,
    ) -> Claiming {
        let is_tracked = matches!(standing, Standing::Tracked(_));
        match (self.0.get(&fingerprint), standing) {
            (Some(held), _) if *held == asked => Claiming::Repeats,
            (Some(_), _) if !is_tracked || Version::is_content(asked) => Claiming::InFlightHere,
            (_, Standing::Tracked(id)) => Claiming::Tracked(id),
            (_, Standing::Owned(claim)) => Claiming::Owned(claim),
            (_, Standing::Free | Standing::Changes(_)) => {
                self.0.insert(fingerprint, asked);
                let seen = if let Standing::Changes(newest) = standing { newest } else { 0 };
                Claiming::Takes { seen }
            }
        }
    }
}
