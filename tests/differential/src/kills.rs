use crate::{Arguments, run::Difference, subject::Setup};
pub fn run(_: &Arguments, _: u64, _: &Setup) -> Result<String, Difference> { todo!() }
pub fn child(_: &Arguments) { todo!() }
