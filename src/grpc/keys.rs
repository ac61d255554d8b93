//! `kekd.v1.KeysService`: names, states, public keys and certificates. Nothing here is secret and
//! nothing changes.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::peer::Peer;
use super::status::Refused;
use super::{convert, extension};
use crate::flows::Node;
use crate::flows::keys::{KeysError, Used};
use crate::proto::v1;
use crate::proto::v1::keys_service_server::KeysService;
use crate::public_key::{PublicKeyError, RsaPublicKey};
use crate::types::{KekName, KeypairId, TypeError};

/// The service.
pub struct Keys {
    node: Arc<Node>,
}

impl Keys {
    /// The service over an open node.
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

fn malformed(error: TypeError) -> Refused {
    Refused::from(&error)
}

fn refused(error: KeysError) -> Refused {
    Refused::from(&error)
}

#[tonic::async_trait]
impl KeysService for Keys {
    async fn list_keks(
        &self,
        request: Request<v1::ListKeksRequest>,
    ) -> Result<Response<v1::ListKeksResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let keks = self.node.list_keks(&peer.identity).map_err(refused)?;
        let keks = keks
            .iter()
            .map(|(name, versions)| kek(name, versions))
            .collect();
        Ok(Response::new(v1::ListKeksResponse { keks }))
    }

    async fn get_kek(
        &self,
        request: Request<v1::GetKekRequest>,
    ) -> Result<Response<v1::GetKekResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let name: KekName = request.get_ref().name.parse().map_err(malformed)?;
        let versions = self.node.kek(&peer.identity, &name).map_err(refused)?;
        Ok(Response::new(v1::GetKekResponse {
            kek: Some(kek(&name, &versions)),
        }))
    }

    async fn get_public_key(
        &self,
        request: Request<v1::GetPublicKeyRequest>,
    ) -> Result<Response<v1::GetPublicKeyResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let format = v1::PublicKeyFormat::try_from(request.get_ref().format);
        let id: KeypairId = request.get_ref().keypair_id.parse().map_err(malformed)?;
        let (version, _) = self.node.version(&peer.identity, id).map_err(refused)?;
        let unusable = |error: PublicKeyError| {
            tracing::error!(%error, %id, "the ledger's public key cannot be written out");
            Refused::internal()
        };
        let key = RsaPublicKey::from_spki(&version.spki).map_err(unusable)?;
        let public_key = match format {
            Ok(v1::PublicKeyFormat::SpkiPem) => key.spki_pem().map_err(unusable)?.into_bytes(),
            Ok(v1::PublicKeyFormat::Pkcs1Der) => key.pkcs1_der().to_vec(),
            Ok(v1::PublicKeyFormat::Jwk) => key.jwk(&id.to_string()).to_string().into_bytes(),
            Ok(v1::PublicKeyFormat::Unspecified) | Err(_) => {
                return Err(malformed(TypeError {
                    what: "the format of a public key",
                    rule: "stated: SPKI_PEM, PKCS1_DER or JWK",
                })
                .into());
            }
        };
        Ok(Response::new(v1::GetPublicKeyResponse { public_key }))
    }

    async fn get_certificate(
        &self,
        request: Request<v1::GetCertificateRequest>,
    ) -> Result<Response<v1::GetCertificateResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let id: KeypairId = request.get_ref().keypair_id.parse().map_err(malformed)?;
        let (version, issuers) = self.node.version(&peer.identity, id).map_err(refused)?;
        let certificate = version.certificate.clone();
        Ok(Response::new(v1::GetCertificateResponse {
            certificate,
            issuers,
        }))
    }

    async fn look_up_recording_policy(
        &self,
        request: Request<v1::LookUpRecordingPolicyRequest>,
    ) -> Result<Response<v1::LookUpRecordingPolicyResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let key = &request.get_ref().key;
        let found = self
            .node
            .recording_policy(&peer.identity, key)
            .map_err(refused)?;
        Ok(Response::new(v1::LookUpRecordingPolicyResponse {
            kek: found.version.kek.to_string(),
            keypair_id: found.version.keypair_id.to_string(),
            is_fallback: found.is_fallback,
        }))
    }
}

fn kek(name: &KekName, versions: &[Used]) -> v1::Kek {
    let versions = versions.iter();
    convert::kek(
        name,
        versions.map(|used| (&*used.version, used.usage, used.by_caller.as_slice())),
    )
}
