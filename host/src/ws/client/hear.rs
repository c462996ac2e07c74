//! What comes of each message of a client. The answers go out in the order of what they answer, but
//! for replies to requests.

use super::Client;
use crate::{
    bus::{Ask, Publishing, Reply},
    event::{NewEvent, types},
    metrics::{Door, Reason},
    question::Wanted,
    ws::protocol::{self, FromClient, Id, Received, Subscribe, ToClient},
};

/// Most requests of one connection that wait for their reply.
const MAX_REQUESTS: usize = 16;

impl Client {
    pub(super) async fn hear(&mut self, text: &str) {
        let (id, read) = protocol::read(text);
        let answer = match read {
            Err(unreadable) => unreadable.refused(id, &self.context.bus),
            Ok(FromClient::Ping) => ToClient::Pong { id },
            Ok(FromClient::Subscribe(wanted)) => self.subscribe(id, wanted).await,
            Ok(FromClient::Unsubscribe) => {
                self.cursor = None;
                ToClient::Subscribed { id, next: self.position() }
            }
            Ok(FromClient::Publish(events)) => match self.context.bus.begin_publish(Door::Websocket, events).await {
                Ok(publishing) => return self.publishing.push_back(Box::pin(acknowledge(id, publishing, true))),
                Err(error) => ToClient::refused(id, error.code(), &error),
            },
            Ok(FromClient::Request(ask)) => match self.request(id, *ask).await {
                Some(refused) => refused,
                None => return,
            },
            Ok(FromClient::Other(message)) => {
                let received = Received { connection_id: self.id, message: &message };
                let event = match NewEvent::new(types::WS_MESSAGE_RECEIVED).data(received) {
                    Ok(event) => self.context.bus.begin_publish_heard(Door::Websocket, event).await,
                    Err(error) => Err(error.into()),
                };
                match event {
                    Ok(publishing) => return self.publishing.push_back(Box::pin(acknowledge(id, publishing, false))),
                    Err(error) => ToClient::refused(id, error.code(), &error),
                }
            }
        };
        self.answer(&answer);
    }

    async fn subscribe(&mut self, id: Id, wanted: Subscribe) -> ToClient {
        let Subscribe { filter, plugin, params, from } = wanted;
        if let Err(error) = self.context.bus.log().resume(None, from) {
            return ToClient::refused(id, error.code(), &error);
        }
        match self.context.questions.resolve(Wanted { filter, plugin, params }).await {
            Err(error) => ToClient::refused(id, error.code(), &error),
            Ok(question) => {
                // Where the old question stands: what lies between would otherwise be asked by
                // nobody.
                let from = from.unwrap_or_else(|| self.position());
                let cursor = self.context.views.follow(question, Some(from));
                let next = cursor.position();
                self.cursor = Some(cursor);
                ToClient::Subscribed { id, next }
            }
        }
    }

    /// Publishes the request, in its turn, and begins to wait for its reply; the answer is a
    /// refusal.
    async fn request(&mut self, id: Id, ask: Ask) -> Option<ToClient> {
        if self.requests.len() >= MAX_REQUESTS {
            self.context.bus.count_rejected(Door::Websocket, 1, Reason::Full);
            let detail = format!("{MAX_REQUESTS} requests of this connection wait for their reply already");
            return Some(ToClient::Error { id, code: "request.too-many", detail });
        }
        let asked = match ask.publish(&self.context.bus, Door::Websocket).await {
            Ok(asked) => asked,
            Err(error) => return Some(ToClient::refused(id, error.code(), &error)),
        };
        self.requests.push(Box::pin(async move {
            match asked.reply().await {
                Ok(Reply { request, correlation_id, reply }) => {
                    ToClient::Reply { id, request, correlation_id, event: reply }
                }
                Err(error) => ToClient::refused(id, error.code(), &error),
            }
        }));
        None
    }
}

/// What the client is told once its events are in the log; of what was `asked` to be published,
/// also that it is.
async fn acknowledge(id: Id, publishing: Publishing, asked: bool) -> Option<ToClient> {
    match publishing.receipts().await {
        Ok(events) => asked.then_some(ToClient::Published { id, events }),
        Err(error) => Some(ToClient::refused(id, error.code(), &error)),
    }
}
