//! Power, clocks, name and firmware of the fake node.

use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, FakeNode};
use crate::effects::{Clock, Firmware, HostName, Power, Variable};

impl Power for FakeNode {
    fn reboot(&self) -> io::Result<()> {
        self.perform(Effect::Reboot, |parts, _| {
            parts.switch_off();
            Ok(())
        })
    }
}

impl HostName for FakeNode {
    fn name(&self) -> String {
        self.parts().hostname.clone()
    }

    fn rename(&self, name: &str) -> io::Result<()> {
        self.perform(Effect::SetHostName(name.to_owned()), |parts, _| {
            name.clone_into(&mut parts.hostname);
            Ok(())
        })
    }
}

impl Clock for FakeNode {
    fn now(&self) -> Timestamp {
        let parts = self.parts();
        parts.now + parts.passed()
    }

    fn uptime(&self) -> Duration {
        let parts = self.parts();
        parts.uptime + parts.passed()
    }

    fn is_synchronized(&self) -> bool {
        self.parts().synchronized
    }

    fn rtc(&self) -> Option<Timestamp> {
        Some(self.now())
    }
}

impl Firmware for FakeNode {
    fn variable(&self, variable: Variable) -> io::Result<Option<Vec<u8>>> {
        let parts = self.parts();
        parts.check_power()?;
        Ok(parts.variables.get(&variable).cloned())
    }
}
