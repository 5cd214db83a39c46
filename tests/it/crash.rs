//! The events that the store survives: loss of power, failing disks, full disks, damage, and killed processes.

mod damage;
mod delivery;
mod durability;
mod endurance;
mod every_fault;
mod faults;
mod full_disk;
mod power;
mod vacuum;
