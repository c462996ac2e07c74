//! Peers: they are discovered, connect, exchange cards, ask for tools and are asked, and go. Each request and its
//! response carry a correlation id of their own.

use super::agenda::Micros;
use super::words;
use super::world::{self, Draft, World};
use crate::event::types;
use serde_json::json;

const MOST_AT_ONCE: usize = 4;
const BASE58: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const SOURCE: &str = "p2p";

#[derive(Debug)]
pub(super) enum Step {
    Discover,
    Connect(u64),
    ExchangeCards(u64),
    Request(u64),
    Respond(u64),
    Leave(u64),
}

#[derive(Debug)]
pub(super) struct Peer {
    peer_id: String,
    name: &'static str,
    skill: &'static str,
    connected: Micros,
    requests_left: u64,
    request: Option<Request>,
}

#[derive(Debug)]
struct Request {
    request_id: String,
    inbound: bool,
    since: Micros,
}

impl World {
    pub(super) fn peer_step(&mut self, step: Step) {
        match step {
            Step::Discover => self.discover_peer(),
            Step::Connect(number) => self.connect_peer(number),
            Step::ExchangeCards(number) => self.exchange_cards(number),
            Step::Request(number) => self.request_tool(number),
            Step::Respond(number) => self.respond(number),
            Step::Leave(number) => self.leave(number),
        }
    }

    fn discover_peer(&mut self) {
        if self.closing {
            return;
        }
        let pause = self.chance.around(6_000);
        self.agenda.after(pause, world::Step::Peer(Step::Discover));
        if self.peers.len() >= MOST_AT_ONCE {
            return;
        }
        let number = self.number();
        let peer_id = format!("12D3KooW{}", self.chance.text(44, BASE58));
        let (name, skill) = self.chance.pick(words::PEERS);
        let address = format!("/ip4/203.0.113.{}/tcp/4001", self.chance.between(2..250));
        let data = json!({"peer_id": peer_id, "addresses": [address], "via": self.chance.pick(&["mdns", "dht"])});
        self.emit(Draft::new(types::P2P_PEER_DISCOVERED, SOURCE, data));
        let requests_left = self.chance.between(2..9);
        let peer = Peer { peer_id, name, skill, connected: 0, requests_left, request: None };
        self.peers.insert(number, peer);
        let delay = self.chance.around(350);
        self.agenda.after(delay, world::Step::Peer(Step::Connect(number)));
    }

    fn connect_peer(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.connected = self.agenda.now();
        let data = json!({"peer_id": peer.peer_id, "protocol": "/agent/1.0.0", "rtt_ms": self.chance.between(4..90)});
        self.emit(Draft::new(types::P2P_PEER_CONNECTED, SOURCE, data));
        let delay = self.chance.around(120);
        self.agenda.after(delay, world::Step::Peer(Step::ExchangeCards(number)));
    }

    fn exchange_cards(&mut self, number: u64) {
        let Some(peer) = self.peers.get(&number) else { return };
        let card = json!({"name": peer.name, "skills": [peer.skill], "version": "1.0"});
        let data = json!({"peer_id": peer.peer_id, "card": card});
        self.emit(Draft::new(types::P2P_CARD_EXCHANGE, SOURCE, data));
        self.request_later(number);
    }

    fn request_later(&mut self, number: u64) {
        let delay = self.chance.around(2_500);
        self.agenda.after(delay, world::Step::Peer(Step::Request(number)));
    }

    fn request_tool(&mut self, number: u64) {
        let request_number = self.number();
        let request_id = self.name("req", request_number);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.requests_left == 0 || self.closing {
            self.agenda.after(0, world::Step::Peer(Step::Leave(number)));
            return;
        }
        peer.requests_left -= 1;
        let inbound = self.chance.one_in(2);
        peer.request = Some(Request { request_id: request_id.clone(), inbound, since: self.agenda.now() });
        let data = json!({"request_id": request_id, "peer_id": peer.peer_id, "tool": peer.skill,
                          "direction": if inbound { "inbound" } else { "outbound" },
                          "arguments": {"text": self.chance.pick(words::PHRASES)}});
        self.emit(Draft::new(types::P2P_TOOL_REQUEST, SOURCE, data).correlated(&request_id));
        let duration = self.chance.around(450);
        self.agenda.after(duration, world::Step::Peer(Step::Respond(number)));
    }

    /// The response; where it was this side that ran the tool, also that it did.
    fn respond(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let (peer_id, skill) = (peer.peer_id.clone(), peer.skill);
        let Some(request) = peer.request.take() else { return };
        let duration = self.millis_since(request.since);
        let fails = self.chance.one_in(15);
        if request.inbound {
            let data =
                json!({"request_id": request.request_id, "tool": skill, "success": !fails, "duration_ms": duration});
            self.emit(Draft::new(types::TOOL_EXECUTED, SOURCE, data).correlated(&request.request_id));
        }
        let mut data = json!({"request_id": request.request_id, "peer_id": peer_id, "tool": skill,
                              "direction": if request.inbound { "outbound" } else { "inbound" },
                              "status": if fails { "error" } else { "ok" }, "duration_ms": duration});
        if fails {
            let (code, message) = self.chance.pick(words::TOOL_ERRORS);
            data["error"] = json!({"code": code, "message": message});
        } else {
            data["result"] = json!({"bytes": self.chance.between(40..4_000)});
        }
        self.emit(Draft::new(types::P2P_TOOL_RESPONSE, SOURCE, data).correlated(&request.request_id));
        self.request_later(number);
    }

    fn leave(&mut self, number: u64) {
        let Some(peer) = self.peers.remove(&number) else { return };
        let reason = self.chance.pick(&["closed by peer", "idle", "keepalive timeout"]);
        let data =
            json!({"peer_id": peer.peer_id, "reason": reason, "connected_ms": self.millis_since(peer.connected)});
        self.emit(Draft::new(types::P2P_PEER_DISCONNECTED, SOURCE, data));
    }
}
