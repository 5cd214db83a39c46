//! What the store survives: losses of power, failing disks, full ones, damage, killed processes.

mod damage;
mod delivery;
mod durability;
mod endurance;
mod every_fault;
mod faults;
mod full_disk;
mod power;
mod vacuum;
