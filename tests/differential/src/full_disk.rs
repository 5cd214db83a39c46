use crate::{Arguments, run::Difference};
pub fn run(_: &Arguments, _: u64, _: &std::path::Path) -> Result<String, Difference> { todo!() }
