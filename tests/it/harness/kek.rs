//! A KEK of a rig as a client has it, and what is read out of answers.

use std::time::Duration;

use kekd::client::{Client, ClientError, Release, UnwrapCall};
use kekd::proto::v1;
use kekd::public_key::RsaPublicKey;
use kekd::types::{EndUser, KeypairId, Padding, WrappedDek};

/// A KEK of the rig and its public key.
pub struct Kek {
    pub keypair_id: KeypairId,
    pub public_key: RsaPublicKey,
}

impl Kek {
    /// The first version of a KEK the client may see.
    pub async fn of(client: &Client, name: &str) -> Self {
        let kek = client.get_kek(&name.parse().unwrap()).await.unwrap();
        let keypair_id = kek.versions[0].keypair_id.parse().unwrap();
        let pem = client
            .get_public_key(keypair_id, v1::PublicKeyFormat::SpkiPem)
            .await
            .unwrap();
        let spki = pem_bytes(&String::from_utf8(pem).unwrap());
        Self {
            keypair_id,
            public_key: RsaPublicKey::from_spki(&spki).unwrap(),
        }
    }

    /// `value` wrapped outside the HSM.
    pub fn wrap(&self, padding: Padding, value: &[u8]) -> Vec<u8> {
        self.public_key
            .wrap(padding, value)
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    /// The keypair id as PKCS#11 tools write a `CKA_ID`: 32 hexadecimal digits.
    pub fn cka_id(&self) -> String {
        self.keypair_id.to_string().replace('-', "")
    }

    /// Unwraps until that goes well: the service comes back by itself.
    pub async fn comes_back(&self, client: &Client) {
        for _ in 0..400 {
            let call = self.call(Padding::OaepSha1, &[3; 32]);
            if client.unwrap(call).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the service did not come back by itself");
    }

    /// A call that unwraps `dek`.
    pub fn call(&self, padding: Padding, dek: &[u8]) -> UnwrapCall {
        self.call_with(padding, self.wrap(padding, dek))
    }

    /// A call with these bytes as the wrapped DEK.
    pub fn call_with(&self, padding: Padding, wrapped: Vec<u8>) -> UnwrapCall {
        UnwrapCall {
            keypair_id: self.keypair_id,
            wrapped_dek: WrappedDek::try_from(wrapped).unwrap(),
            padding,
            recipient: None,
            request_id: None,
            end_user: EndUser::default(),
        }
    }
}

/// The DER inside a PEM text.
pub fn pem_bytes(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

/// The DEK of a clear release.
pub fn dek(release: &Release) -> [u8; 32] {
    match release {
        Release::Dek(dek) => *dek.as_bytes(),
        Release::Rewrapped(_) => panic!("a wrapped DEK where a clear one was asked for"),
    }
}

/// Reason of a refusal.
pub fn reason(error: &ClientError) -> &str {
    let ClientError::Refused(refusal) = error else {
        panic!("not a refusal: {error}");
    };
    &refusal.reason
}
