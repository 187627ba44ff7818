//! An API server for one test or several: real validation, real watches, real authorization; no nodes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};

use crate::control_plane::{self, ControlPlane, Places, Settings};
use crate::kubeconfig;
use crate::requirements::there_or_skip;
use crate::scratch::Scratch;

/// A running API server with its own etcd, on addresses that no other one has. Both end with this value, and everything
/// that they knew is gone.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// let mut server = kubelab::ApiServer::start()?;
/// let client = server.client().await?;
/// server.stop_server(); // Its clients lose it.
/// server.start_server()?; // It knows what it knew.
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ApiServer {
    plane: ControlPlane,
    // After the plane: programs end before their folder goes.
    _folder: Scratch,
}

impl ApiServer {
    /// Starts one and waits until it is ready: about 5 s. Nothing happens to objects by itself: no controller deletes what
    /// a namespace held, or makes service accounts (which pods therefore do not need).
    pub fn start() -> Result<Self> {
        Self::start_with(false)
    }

    /// The same with controller-manager and scheduler.
    pub fn start_with_controllers() -> Result<Self> {
        Self::start_with(true)
    }

    /// Starts one if its programs are there. If not, it says loudly that nothing was proved, and gives none; with
    /// `POLDER_STRICT=1` in the environment that is a failure.
    ///
    /// # Panics
    ///
    /// If it does not start; and without its programs, if `POLDER_STRICT` is 1.
    #[expect(clippy::panic, reason = "this is for tests, which fail so")]
    pub fn start_or_skip(test: &str) -> Option<Self> {
        if let Err(missing) = control_plane::check_programs(false) {
            there_or_skip(false, test, &format!("{missing:#}"));
            return None;
        }
        Some(Self::start().unwrap_or_else(|error| panic!("{test}: {error:#}")))
    }

    fn start_with(controllers: bool) -> Result<Self> {
        control_plane::check_programs(controllers)?;
        let folder = Scratch::create("api-server")?;
        let places = Places::new();
        let settings =
            Settings { folder: folder.path().to_owned(), places, server: places.server(), controllers };
        Ok(Self { plane: ControlPlane::start(settings)?, _folder: folder })
    }

    /// The administrator's kubeconfig: it holds all keys, so a copy of it works as long as the server.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.kubeconfig()
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.plane.server_address())
    }

    /// How an administrator's client is set up.
    pub async fn config(&self) -> Result<Config> {
        kubeconfig::config(&self.kubeconfig()).await
    }

    /// An administrator's client.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// How a client is set up that has a service account's token and therefore its rights alone. The account has to exist.
    pub async fn config_of(&self, namespace: &str, account: &str) -> Result<Config> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let given = accounts
            .create_token_request(account, &PostParams::default(), &TokenRequest::default())
            .await
            .with_context(|| format!("service account {namespace}/{account}: no token"))?;
        let token =
            given.status.with_context(|| format!("service account {namespace}/{account}: no token"))?.token;
        let mut config = self.config().await?;
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        Ok(config)
    }

    /// A client with a service account's rights.
    pub async fn client_of(&self, namespace: &str, account: &str) -> Result<Client> {
        Ok(Client::try_from(self.config_of(namespace, account).await?)?)
    }

    /// Ends the API server, but not its memory: what clients see while it is away.
    pub fn stop_server(&mut self) {
        self.plane.stop_server();
    }

    /// Starts it again at the same address with what it knew, and waits until it is ready.
    pub fn start_server(&mut self) -> Result<()> {
        self.plane.start_server()
    }

    /// Fails with the end of its log if one of the programs has ended by itself.
    pub fn check(&self) -> Result<()> {
        self.plane.check()
    }
}
