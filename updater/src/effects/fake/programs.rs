//! What runs on the fake node beside the daemon: systemd's services, kubelet, the container runtime.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::{Effect, FakeNode};
use crate::effects::{
    Clock, Health, Membership, Random, SeedDisk, SeedError, Services, UnitOrder, UnitState,
};
use crate::grpc::GrpcError;
use crate::grpc::messages::RuntimeCondition;

/// How well a boot is, in the time since power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wellness {
    /// From then on container runtime and kubelet are well.
    pub from: Duration,
    /// And not any more from then on.
    pub until: Duration,
    /// What any other address answers.
    pub status: u16,
}

/// Nobody is there.
impl Default for Wellness {
    fn default() -> Self {
        Self { from: Duration::MAX, until: Duration::MAX, status: 200 }
    }
}

impl FakeNode {
    /// Whether container runtime and kubelet are well.
    pub fn is_well(&self) -> bool {
        let wellness = self.parts().wellness;
        let uptime = Clock::uptime(self);
        wellness.from <= uptime && uptime < wellness.until
    }
}

/// What kubelet answers on.
const KUBELET_PORT: &str = ":10248";

#[async_trait]
impl Services for FakeNode {
    async fn order(&self, order: UnitOrder, unit: &str) -> io::Result<()> {
        self.perform(Effect::Unit(order, unit.to_owned()), |_, _| Ok(()))
    }

    async fn state(&self, _: &str) -> io::Result<UnitState> {
        self.parts().check_power()?;
        Ok(UnitState { process: None, has_failed: false })
    }

    async fn log(&self, _: &str) -> io::Result<String> {
        self.parts().check_power()?;
        Ok(String::new())
    }
}

impl Membership for FakeNode {
    fn host_name(&self) -> String {
        self.parts().hostname.clone()
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(FakeNode::boot_id(self).to_string())
    }

    fn has_joined(&self) -> io::Result<bool> {
        Ok(self.parts().certificate.is_some())
    }

    fn certificate(&self) -> io::Result<Option<Vec<u8>>> {
        let parts = self.parts();
        parts.check_power()?;
        Ok(parts.certificate.clone())
    }

    fn has_credentials(&self) -> io::Result<bool> {
        Ok(self.parts().certificate.is_some())
    }
}

#[async_trait]
impl Health for FakeNode {
    async fn runtime(&self, _: &Path) -> Result<Vec<RuntimeCondition>, GrpcError> {
        let status = self.is_well();
        let condition = |name: &str| RuntimeCondition {
            r#type: name.to_owned(),
            status,
            reason: "Starting".to_owned(),
            message: "the container runtime is starting".to_owned(),
        };
        Ok(["RuntimeReady", "NetworkReady"].map(condition).into())
    }

    async fn http_status(&self, host: &str, _: &str) -> io::Result<Option<u16>> {
        self.parts().check_power()?;
        match (self.is_well(), host.ends_with(KUBELET_PORT)) {
            (true, true) => Ok(Some(200)),
            (true, false) => Ok(Some(self.parts().wellness.status)),
            (false, _) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    async fn file(&self, _: &Path) -> io::Result<()> {
        self.parts().check_power()?;
        Err(io::ErrorKind::NotFound.into())
    }
}

/// There is no such disk.
impl SeedDisk for FakeNode {
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError> {
        Ok(None)
    }
}

impl Random for FakeNode {
    fn chance(&self) -> f64 {
        self.parts().dice.roll() as f64 / u64::MAX as f64
    }
}
