//! Requests that proxies tell of, as users read them.

use std::net::SocketAddr;

use agent_api::flow::{Asked, End, FlowLine, FlowVerdict};
use agent_api::judgement::Direction;
use datapath::abi::Direction::Ingress;
use datapath::abi::RuleSetId;
use datapath::lookup::RuleId;
use policy_compiler::rule_set::Origin;
use proxy_api::request::{Outcome, Request};

use super::Control;

impl Control {
    /// Tells whoever follows.
    pub(super) fn report_requests(&self, requests: Vec<Request<'static>>) {
        let all = self.parts.demand.is_followed();
        for request in requests {
            let rule = id(&request);
            // Of what was allowed there is more than is wanted if only some policies want to be told of.
            if all || request.outcome != Outcome::Allowed || rule.is_some_and(|rule| self.logs(rule)) {
                // Without a receiver nobody wants it.
                let _followers = self.parts.flows.send(self.request_line(request, rule));
            }
        }
    }

    /// Has proxies asked for what they allow, if a policy in force wants that to be told.
    pub(super) fn tell_what_is_logged(&self) {
        self.parts.demand.set_policies(self.compiler.policies().any(|policy| policy.log));
    }

    /// Whether a policy behind a rule wants it to be told what that decides.
    fn logs(&self, rule: RuleId) -> bool {
        let logs = |object| self.compiler.policy(object).is_some_and(|policy| policy.log);
        self.compiler.rule(rule).is_some_and(|rule| match &rule.origin {
            Origin::Rule { object, .. } | Origin::Claim { object, .. } => logs(object),
            Origin::Isolation { policies } => policies.iter().any(logs),
        })
    }

    fn request_line(&self, request: Request<'static>, rule: Option<RuleId>) -> FlowLine {
        let fault = request.fault.map(String::from);
        let (verdict, instead) = match request.outcome {
            Outcome::Allowed | Outcome::Failed => (FlowVerdict::Allowed, None),
            Outcome::Denied => (FlowVerdict::Denied, None),
            Outcome::Refused => (FlowVerdict::Denied, Some("refused")),
            Outcome::Withdrawn => (FlowVerdict::Denied, Some("withdrawn")),
        };
        let reason = instead.or(request.reason.as_deref()).unwrap_or("unknown").to_owned();
        FlowLine {
            time: request.time,
            direction: self.direction(rule, request.server),
            source: self.socket(request.client),
            destination: self.socket(request.server),
            protocol: "tcp".to_owned(),
            verdict,
            reason,
            rule: rule.and_then(|rule| self.rule(rule)),
            repeats: 1,
            request: Some(Box::new(Asked {
                protocol: request.protocol.name().to_owned(),
                method: request.method.into_owned(),
                host: request.host.into_owned(),
                path: request.path.into_owned(),
                status: request.status,
                fault,
                seconds: request.seconds,
            })),
        }
    }

    /// Whose policy said so: that of the rule's pod; if no rule did, that of the server if it is here.
    fn direction(&self, rule: Option<RuleId>, server: SocketAddr) -> Direction {
        let of_rule = rule.and_then(|rule| self.compiler.rule_set_by_id(rule.rule_set));
        let is_here = || {
            let pod = self.compiler.owner(server.ip());
            pod.is_some_and(|pod| self.compiler.tables().endpoints.contains_key(&pod.key))
        };
        let is_ingress = of_rule.map_or_else(is_here, |of_rule| of_rule.direction() == Ingress);
        if is_ingress { Direction::Ingress } else { Direction::Egress }
    }

    fn socket(&self, socket: SocketAddr) -> End {
        let pod = self.compiler.owner(socket.ip()).map(|pod| pod.key.to_string());
        End { address: socket.ip(), port: Some(socket.port()), pod }
    }
}

/// As the tables name the rule.
fn id(request: &Request<'_>) -> Option<RuleId> {
    Some(RuleId { rule_set: RuleSetId::new(request.rule_set?.0), rank: request.rank? })
}
