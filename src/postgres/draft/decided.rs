//! Answers to operations that are decided.
//!
//! Always holds: an answer names records by their numbers until they are read.

use crate::backend::claims::Grant;
use crate::backend::operation::Answer;
use crate::dedupe::{Mode, Verdict, Verdicts};
use crate::ids::RecordNumber;
use crate::model::{ClaimOutcome, ClaimVerdict, Record};

/// The answer to an operation. Records that it names are still to be read.
#[derive(Debug)]
pub(crate) enum Decided {
    Answer(Answer),
    Verdicts {
        mode: Mode,
        verdicts: Vec<Verdict>,
        firsts: Vec<Option<RecordNumber>>,
    },
    /// The duplicates of these indexes name these records.
    Grant {
        grant: Grant,
        firsts: Vec<(usize, RecordNumber)>,
    },
    Outcomes(Vec<std::result::Result<ClaimOutcome, RecordNumber>>),
}

impl Decided {
    /// Returns the records that the answer names.
    pub(crate) fn records(&self) -> Vec<RecordNumber> {
        match self {
            Self::Answer(_) => Vec::new(),
            Self::Verdicts { firsts, .. } => firsts.iter().copied().flatten().collect(),
            Self::Grant { firsts, .. } => firsts.iter().map(|(_, id)| *id).collect(),
            Self::Outcomes(outcomes) => {
                outcomes.iter().filter_map(|outcome| outcome.as_ref().err().copied()).collect()
            }
        }
    }

    /// Returns the answer with the records that it names.
    pub(crate) fn finish(self, record: impl Fn(RecordNumber) -> Option<Record>) -> Answer {
        match self {
            Self::Answer(answer) => answer,
            Self::Verdicts { mode, verdicts, firsts } => {
                let firsts = firsts.into_iter().map(|first| first.and_then(&record)).collect();
                Answer::Verdicts(Verdicts::new(mode, verdicts, firsts))
            }
            Self::Grant { mut grant, firsts } => {
                for (index, id) in firsts {
                    if let Some((_, verdict)) = grant.verdicts.get_mut(index) {
                        *verdict = ClaimVerdict::Duplicate(record(id).map(Box::new));
                    }
                }
                Answer::Grant(grant)
            }
            Self::Outcomes(outcomes) => {
                let outcome = |outcome: std::result::Result<ClaimOutcome, RecordNumber>| {
                    outcome.unwrap_or_else(|id| {
                        record(id).map_or(ClaimOutcome::LeaseLost, |first| {
                            ClaimOutcome::AlreadyTracked(first.into())
                        })
                    })
                };
                Answer::Outcomes(outcomes.into_iter().map(outcome).collect())
            }
        }
    }
}
