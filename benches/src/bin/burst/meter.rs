//! What is read off: memory and processor time of processes, and of the whole machine.

use anyhow::Context;
use herald_tests::lab::process::Process;
use procfs::CurrentSI;

/// Processor time used, in seconds, by group of processes; that of the whole machine is `machine`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    groups: Vec<(&'static str, f64)>,
    machine: f64,
}

impl Work {
    /// What the processes of each group and this one have used until now.
    pub(crate) fn read(groups: &[(&'static str, Vec<Process>)]) -> anyhow::Result<Self> {
        let used = |pid: i32| -> anyhow::Result<f64> {
            let process = procfs::process::Process::new(pid).context("find a process")?;
            let stat = process.stat().context("read what a process has used")?;
            Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
        };
        let mut read = Vec::new();
        for (name, processes) in groups {
            let each = processes.iter().map(|process| used(process.pid()));
            read.push((*name, each.sum::<anyhow::Result<f64>>()?));
        }
        let own = i32::try_from(std::process::id()).context("a pid")?;
        read.push(("bench", used(own)?));
        let total = procfs::KernelStats::current().context("read /proc/stat")?.total;
        let busy = total.user
            + total.nice
            + total.system
            + total.irq.unwrap_or_default()
            + total.softirq.unwrap_or_default()
            + total.steal.unwrap_or_default();
        Ok(Self { groups: read, machine: busy as f64 / procfs::ticks_per_second() as f64 })
    }

    /// What was used after `before` was read, in one line; `other` is what nobody here has used.
    pub(crate) fn since(&self, before: &Self) -> String {
        let used = self.groups.iter().zip(&before.groups);
        let used: Vec<_> = used.map(|((name, now), (_, then))| (*name, now - then)).collect();
        let all: f64 = used.iter().map(|(_, seconds)| seconds).sum();
        let other = (self.machine - before.machine - all).max(0.0);
        let groups = used.iter().map(|(name, seconds)| format!("{name} {seconds:.1} s"));
        format!("{}, other {other:.1} s", groups.collect::<Vec<_>>().join(", "))
    }
}
