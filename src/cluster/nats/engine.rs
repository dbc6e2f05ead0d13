//! The engine as it is configured: its servers, the logs on them, and the settings that they must have.

use serde_json::json;

use super::{Log, LogError, NatsLog, NatsOptions};
use crate::config::{ClusterConfig, Secret};

/// The least version of the servers: earlier ones lose a stream that is purged up to a position before its first one.
const MIN_VERSION: (u64, u64, u64) = (2, 14, 2);
/// The longest message that servers must take, in bytes: an entry of the most bytes, in its form as an entry.
const MIN_MAX_PAYLOAD: usize = 768 << 10;

/// Connects to the engine that `config` names, and finds the newest log of the cluster there. Returns it; the number is 1 and the
/// flag unset where there is none.
///
/// # Errors
/// [`LogError::Unreachable`]; [`LogError::Refused`] where the servers are of no use.
pub async fn connect(config: &ClusterConfig) -> Result<(NatsLog, bool), LogError> {
    let user = config.user.clone().map(|user| (user, Secret::reveal(&config.password).to_owned()));
    let options = NatsOptions {
        servers: config.nats.clone(),
        user,
        root_certificates: config.tls_ca.clone(),
        cluster: config.name.clone(),
        generation: 1,
    };
    let log = NatsLog::connect(options).await?;
    log.check_server()?;
    match log.newest_generation().await? {
        Some(generation) => Ok((NatsLog::new(log.api, log.cluster, generation), true)),
        None => Ok((log, false)),
    }
}

/// Returns the numbers of a version.
fn version_of(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next()?, parts.next()?))
}

impl NatsLog {
    /// Checks the server that is connected.
    fn check_server(&self) -> Result<(), LogError> {
        let info = self.client().server_info();
        if version_of(&info.version).is_none_or(|version| version < MIN_VERSION) {
            let (major, minor, patch) = MIN_VERSION;
            let text = format!("NATS server {} is too old: update it to {major}.{minor}.{patch} or later", info.version);
            return Err(LogError::Refused(text));
        }
        if info.max_payload < MIN_MAX_PAYLOAD {
            let text = format!("max_payload of the NATS servers is {}: set it to {MIN_MAX_PAYLOAD} or more", info.max_payload);
            return Err(LogError::Refused(text));
        }
        Ok(())
    }

    /// Returns the number of the newest log of the cluster.
    async fn newest_generation(&self) -> Result<Option<u32>, LogError> {
        // Subjects of a cluster are its own, so these are a few; one request returns hundreds.
        let filter = json!({"subject": format!("qy.{}.*.log", self.cluster)});
        let names = self.api.call("STREAM.NAMES", &filter).await?;
        let prefix = format!("qy-{}-", self.cluster);
        let names = names["streams"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        Ok(names.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).max())
    }

    /// Checks the settings of the log: `replicas` servers keep it, and it never drops an entry by itself.
    ///
    /// # Errors
    /// [`LogError::Refused`], with what is wrong; [`LogError::Unreachable`].
    pub async fn check_settings(&self, replicas: usize) -> Result<(), LogError> {
        let info = self.api.call(&format!("STREAM.INFO.{}", self.stream), &json!({})).await?;
        let config = &info["config"];
        let kept = config["num_replicas"].as_u64().unwrap_or(0);
        if kept < replicas as u64 {
            let text = format!("the log is kept by {kept} servers, and cluster.replicas says {replicas}");
            return Err(LogError::Refused(text));
        }
        let is_unbounded = |name: &str| config[name].as_i64().unwrap_or(0) <= 0;
        if config["discard"] != "new" || !is_unbounded("max_age") || !is_unbounded("max_msgs") {
            return Err(LogError::Refused(
                "the stream of the log drops entries by itself: somebody has changed its settings".into(),
            ));
        }
        Ok(())
    }

    /// The longest message that the servers take, in bytes.
    pub fn max_payload(&self) -> usize {
        self.client().server_info().max_payload
    }

    /// Returns whether a cluster was founded on this log.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn is_founded(&self) -> Result<bool, LogError> {
        Ok(self.end().await? > super::Position(0) || !self.snapshot_positions().await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        assert_eq!(version_of("2.14.10"), Some((2, 14, 10)));
        assert!(version_of("2.14.10") > version_of("2.14.2") && version_of("2.9.25") < Some(MIN_VERSION));
        assert_eq!(version_of("2.15.0-RC.1"), Some((2, 15, 0)));
        assert_eq!(version_of("nightly"), None);
    }
}
