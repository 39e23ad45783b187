//! Power-on to a healthy node, by phase, beside a stock Debian root with the same programs.
//!
//! Both boot in the same [`Machine`], in turns, from their second boot on. The phases come
//! from the kernel's clock on the console; what the host's clock says beyond it is firmware,
//! loader and unpacking of the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use vm_tests::BOOT_SECONDS;
use vm_tests::machine::{Machine, OnReset};

use crate::document::{head, row};
use crate::isolated;
use crate::measure::{Spread, in_turns, run};
use crate::releases::slipway;
use crate::stock;

/// Measured boots of each disk, in both orders equally often.
const ROUNDS: usize = 4;

/// Seconds after the first healthy moment in which the guest writes its state to disk.
const SETTLE: Duration = Duration::from_secs(10);

/// What both kernels are told besides: systemd's lines on the console with the kernel's
/// clock, and the settings of the VM tests.
const OPTIONS: [&str; 5] = [
    "systemd.log_target=kmsg",
    "printk.devkmsg=on",
    "systemd.show_status=0",
    "mitigations=off",
    "transparent_hugepage=never",
];

/// What `bench-healthy` says first.
const HEALTHY: &str = "bench: healthy";

/// The unit that runs it.
const HEALTH: &str = "[Unit]\nDescription=Tells the console when the node is healthy\n\n\
    [Service]\nType=oneshot\nExecStart=/usr/bin/bench-healthy\n\
    StandardOutput=journal+console\n\n\
    [Install]\nWantedBy=multi-user.target\n";

/// What only the stock system has to be told: the node image's manifest says the same.
const STOCK_CONSOLE: &str = "console=tty0 console=ttyS0,115200";

/// Makes both disks, then boots them in a process without a network; gives its table.
///
/// # Errors
/// When a disk cannot be made or does not boot. Without a peer the table says so.
pub fn table(folder: &Path) -> Result<String> {
    let manifest = folder.join("boot.toml");
    let words: Vec<String> = OPTIONS.iter().map(|word| format!("{word:?}")).collect();
    let lines = format!(
        "# The node image, telling the console more: for the benchmark.\n\n\
         extends = \"../../manifests/images/node.toml\"\n\
         append-command-line = [{}]\n\n\
         [image]\nname = \"bench-boot\"\n\n\
         [parts.bench]\nwhy = \"Tells the console when the node is healthy.\"\ntree = \"boot\"\n\
         enable = [{:?}]\n\n\
         [parts.bench.workspace]\nbench-healthy = \"/usr/bin/bench-healthy\"\n",
        words.join(", "),
        stock::HEALTH
    );
    let units = folder.join("boot/usr/lib/systemd/system");
    fs::create_dir_all(&units)?;
    fs::write(units.join(stock::HEALTH), HEALTH)?;
    fs::write(&manifest, lines)?;
    let release = folder.join("release-boot");
    let manifest = manifest.display().to_string();
    run(&slipway(&manifest, &release)?, &folder.join("slipway.log"))?;
    let options = format!("{STOCK_CONSOLE} {}", OPTIONS.join(" "));
    let lacking = match stock::disk(folder, &release, &options) {
        Ok(_) => String::new(),
        Err(error) => {
            let disk = folder.join("stock.raw");
            if disk.exists() {
                fs::remove_file(disk)?;
            }
            format!("\nNo peer in this run: {error:#}.\n")
        }
    };
    Ok(isolated::table("boots", folder)? + &lacking)
}

/// Boots the disks in `folder` in turns, and gives the table.
///
/// # Errors
/// When a disk does not become healthy, with the console's tail.
pub fn measure(folder: &Path) -> Result<String> {
    let mut series = Vec::new();
    let disks = [
        ("Slipway", "bench-slipway", folder.join("release-boot/disk.raw")),
        ("stock Debian root", "bench-stock", folder.join("stock.raw")),
    ];
    for (name, machine, disk) in disks.iter().filter(|(_, _, disk)| disk.exists()) {
        eprintln!("bench: first boot of {name}");
        let (machine, seconds) = first_boot(machine, disk)?;
        series.push(Series { name, machine, first: seconds, boots: Vec::new() });
    }
    for round in 1..=ROUNDS {
        for series in in_turns(round, &mut series) {
            eprintln!("bench: boots, round {round} of {ROUNDS}: {}", series.name);
            series.boots.push(next_boot(&series.machine)?);
        }
    }
    lines(&series)
}

/// Takes one figure of a boot.
type PhaseOf = fn(&Phases) -> f64;

/// Boots of one disk.
#[derive(Debug)]
struct Series<'a> {
    name: &'a str,
    /// Folder of the machine.
    machine: PathBuf,
    /// Seconds of the first boot.
    first: f64,
    boots: Vec<Phases>,
}

/// Seconds of each phase.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Phases {
    firmware: f64,
    kernel: f64,
    initrd: f64,
    userspace: f64,
}

impl Phases {
    fn total(&self) -> f64 {
        self.firmware + self.kernel + self.initrd + self.userspace
    }
}

fn first_boot(name: &str, disk: &Path) -> Result<(PathBuf, f64)> {
    let mut machine = Machine::start(name, disk)?;
    let seconds = machine.wait_for(HEALTHY, BOOT_SECONDS)?;
    sleep(SETTLE);
    Ok((machine.cut_power()?, seconds))
}

fn next_boot(folder: &Path) -> Result<Phases> {
    let mut machine = Machine::power_on(folder, OnReset::Boot)?;
    let seconds = machine.wait_for(HEALTHY, BOOT_SECONDS)?;
    // The rest of the line follows at once.
    machine.wait_for("of uptime", BOOT_SECONDS)?;
    let found = phases(&machine.serial(), seconds);
    let found = found.with_context(|| machine.tail())?;
    sleep(SETTLE);
    machine.cut_power()?;
    Ok(found)
}

/// Phases of a boot that was healthy `seconds` after power-on, by the host's clock.
fn phases(console: &str, seconds: f64) -> Result<Phases> {
    let at = |text: &str| {
        let line = console.lines().rfind(|line| line.contains(text));
        let line = line.with_context(|| format!("the console does not say {text:?}"))?;
        stamp(line).with_context(|| format!("no time in {line:?}"))
    };
    let init = at("Run /init as init process")?;
    let system = at("running in system mode")?;
    let said = console.rsplit_once(HEALTHY).and_then(|(_, rest)| rest.split_whitespace().nth(1));
    let healthy: f64 = said.context("no time after the last line")?.parse()?;
    Ok(Phases {
        firmware: seconds - healthy,
        kernel: init,
        initrd: system - init,
        userspace: healthy - system,
    })
}

/// The kernel's time stamp, `[    4.124465]`, wherever the line has it.
fn stamp(line: &str) -> Option<f64> {
    line.split('[').skip(1).find_map(|rest| rest.split_once(']')?.0.trim().parse().ok())
}

fn lines(series: &[Series<'_>]) -> Result<String> {
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    let mut text = head(&[vec!["phase, seconds"], names, vec!["times Slipway's"]].concat());
    let phases: [(&str, PhaseOf); 5] = [
        ("firmware, loader, unpacking of kernel", |phases| phases.firmware),
        ("kernel, until its first program", |phases| phases.kernel),
        ("initrd", |phases| phases.initrd),
        ("userspace, until healthy", |phases| phases.userspace),
        ("**power-on to healthy**", Phases::total),
    ];
    for (name, of) in phases {
        let mut cells = vec![name.to_owned()];
        for series in series {
            cells.push(Spread::of(series.boots.iter().map(of))?.to_string());
        }
        cells.push(match series {
            [own, peer] => {
                let pairs = peer.boots.iter().zip(&own.boots);
                Spread::of(pairs.map(|(peer, own)| of(peer) / of(own)))?.to_string()
            }
            _ => String::new(),
        });
        text += &row(&cells);
    }
    let mut first = vec!["first boot ever, once".to_owned()];
    first.extend(series.iter().map(|series| format!("{:.1}", series.first)));
    first.push(String::new());
    Ok(text + &row(&first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "BdsDxe: starting Boot0001\n\
        [    0.000000] Linux version 6.12\n\
        [    3.500000] Run /init as init process\n\
        [!p]104[?7h[    4.124465] systemd[1]: systemd 257 running in system mode (+PAM)\n\
        [   10.500000] systemd[1]: systemd 257 running in system mode (+PAM)\n\
        bench: healthy after 20.5 s of uptime\n";

    #[test]
    fn phases_are_read_from_the_console() -> Result<()> {
        let phases = phases(CONSOLE, 28.0)?;
        let expected = Phases { firmware: 7.5, kernel: 3.5, initrd: 7.0, userspace: 10.0 };
        assert_eq!(phases, expected);
        assert!((phases.total() - 28.0).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn a_console_without_a_phase_is_an_error() {
        let error = phases(&CONSOLE.replace("Run /init", "Run"), 28.0).unwrap_err();
        assert!(error.to_string().contains("Run /init"), "{error}");
    }
}
