//! The machine: what it is, and who uses its processors.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};

/// Clock ticks a second in `/proc`: fixed at 100 for user space on Linux.
const TICKS: f64 = 100.0;

/// Processor seconds, user and system, that a process took so far.
pub(crate) fn processor_of(pid: &str) -> Result<f64> {
    let stat = stat_fields(pid)?;
    Ok((stat[11].parse::<f64>()? + stat[12].parse::<f64>()?) / TICKS)
}

/// Processor seconds that everything on the machine took so far, and what a hypervisor took away.
pub(crate) fn processor_of_all() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let numbers: Vec<f64> = stat
        .lines()
        .next()
        .context("empty")?
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(numbers.len() >= 8, "a short /proc/stat");
    let idle = numbers[3] + numbers[4];
    Ok((numbers[..8].iter().sum::<f64>() - idle) / TICKS)
}

/// The process that started another.
pub(crate) fn parent_of(pid: &str) -> Result<u32> {
    Ok(stat_fields(pid)?[1].parse()?)
}

/// When, how and on what this was measured, in one line.
pub(crate) fn describe(command: &str) -> Result<String> {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output().context("date")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = memory.split_whitespace().nth(1).context("MemTotal")?.parse::<f64>()?;
    Ok(format!(
        "{}, `{command}`; {} cores ({}), {:.0} GiB of memory, Linux {}.",
        String::from_utf8_lossy(&date.stdout).trim(),
        available_parallelism()?,
        model.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':'])),
        kib / 1024.0 / 1024.0,
        kernel.trim()
    ))
}

/// The fields of `/proc/PID/stat` after the command's name: state, parent, …; 11 and 12 are user and system time.
fn stat_fields(pid: &str) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no command in stat")?;
    let fields: Vec<String> = rest.split(' ').map(str::to_owned).collect();
    ensure!(fields.len() > 12, "a short stat");
    Ok(fields)
}
