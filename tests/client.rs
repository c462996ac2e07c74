//! A WebSocket client that is not ours.

use crate::hub::{TestHub, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub welcome: Value,
}

impl Client {
    pub async fn connect(hub: &TestHub, query: &str) -> Self {
        Self::try_connect(hub, query).await.unwrap()
    }

    /// The error is the status and the body of the refusal.
    pub async fn try_connect(hub: &TestHub, query: &str) -> Result<Self, (u16, Value)> {
        Self::try_connect_to(&hub.addr().to_string(), query).await
    }

    pub async fn try_connect_to(address: &str, query: &str) -> Result<Self, (u16, Value)> {
        let url = format!("ws://{address}/ws/events{query}");
        match within(connect_async(url)).await {
            Ok((socket, _)) => {
                let mut client = Self { socket, welcome: Value::Null };
                client.welcome = client.next().await;
                assert_eq!(client.welcome["op"], "welcome");
                Ok(client)
            }
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or(json!(null))))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn next(&mut self) -> Value {
        self.next_or_close().await.unwrap_or_else(|close| panic!("closed: {close:?}"))
    }

    /// The next message, or how the connection ended.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(text.as_str()).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next event of this type.
    pub async fn next_of(&mut self, event_type: &str) -> Value {
        self.next_with("type", event_type).await
    }

    async fn next_with(&mut self, key: &str, value: &str) -> Value {
        within(async {
            loop {
                let message = self.next().await;
                if message[key] == value {
                    return message;
                }
            }
        })
        .await
    }

    /// The next message with this `op`.
    pub async fn next_op(&mut self, op: &str) -> Value {
        self.next_with("op", op).await
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn ask(&mut self, message: Value, op: &str) -> Value {
        self.say(message).await;
        self.next_op(op).await
    }

    pub async fn closed(mut self) -> Option<CloseFrame> {
        loop {
            if let Err(close) = self.next_or_close().await {
                return close;
            }
        }
    }
}
