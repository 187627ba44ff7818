//! The last flows, and those to come.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use agent_api::flow::FlowLine;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::proxy::demand::Demand;

/// How many lines a follower may be behind before it loses some.
const BEHIND: usize = 4096;

/// Something to tell a follower.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A flow.
    Flow(Arc<FlowLine>),
    /// So many flows are lost to everybody.
    Lost(u64),
}

/// The last flows. All of its methods are short: nobody waits for a slow follower.
#[derive(Debug)]
pub struct History {
    last: Mutex<VecDeque<Arc<FlowLine>>>,
    most: usize,
    live: broadcast::Sender<News>,
    demand: Arc<Demand>,
}

impl History {
    /// Remembers up to so many flows.
    pub fn new(most: usize) -> Arc<Self> {
        let (live, _) = broadcast::channel(BEHIND);
        Arc::new(Self { last: Mutex::new(VecDeque::new()), most, live, demand: Arc::default() })
    }

    /// Takes in flows until their source is gone.
    pub async fn keep(self: Arc<Self>, mut flows: broadcast::Receiver<FlowLine>) {
        loop {
            match flows.recv().await {
                Ok(flow) => self.add(Arc::new(flow)),
                Err(RecvError::Lagged(lines)) => self.tell(News::Lost(lines)),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Who wants to hear of requests that were allowed.
    pub fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    /// Tells whoever follows that so many flows are lost here.
    pub fn lose(&self, lines: u64) {
        self.tell(News::Lost(lines));
    }

    fn add(&self, flow: Arc<FlowLine>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while last.len() >= self.most.max(1) {
            last.pop_front();
        }
        last.push_back(Arc::clone(&flow));
        // Under the lock: a follower that begins now has the flow exactly once.
        self.tell(News::Flow(flow));
    }

    fn tell(&self, news: News) {
        // An error says that nobody follows.
        let _followers = self.live.send(news).unwrap_or(0);
    }

    /// What is remembered, oldest first, and what comes after that.
    pub(crate) fn follow(&self) -> (Vec<Arc<FlowLine>>, broadcast::Receiver<News>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.iter().cloned().collect(), self.live.subscribe())
    }
}
