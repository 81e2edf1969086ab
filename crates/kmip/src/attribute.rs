//! Attributes (KMIP 1.4 §3): a name, an index and a value whose type depends on the name.

use crate::enums::{
    CryptographicAlgorithm, DigitalSignatureAlgorithm, HashingAlgorithm, NameType, ObjectType,
    PaddingMethod, RecommendedCurve, State,
};
use crate::tags;
use crate::ttlv::{Fields, Item, Kind, Tag, TtlvError, Writer};

/// An attribute of an object. Index 0 is not written, as the specification allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    pub index: Option<i32>,
    pub value: AttributeValue,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttributeValue {
    UniqueIdentifier(String),
    Name(Name),
    ObjectType(ObjectType),
    CryptographicAlgorithm(CryptographicAlgorithm),
    CryptographicLength(i32),
    CryptographicParameters(CryptographicParameters),
    CryptographicDomainParameters(DomainParameters),
    CryptographicUsageMask(i32),
    State(State),
    ActivationDate(i64),
    Sensitive(bool),
    Extractable(bool),
    /// Any other attribute, as it came.
    Other {
        name: String,
        kind: Kind,
        value: Vec<u8>,
    },
}

/// §3.2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    pub value: String,
    pub kind: NameType,
}

/// §3.6; of its many fields those that signing knows. Others are refused in requests and skipped
/// in responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CryptographicParameters {
    pub padding: Option<PaddingMethod>,
    pub hashing: Option<HashingAlgorithm>,
    pub signature_algorithm: Option<DigitalSignatureAlgorithm>,
    pub algorithm: Option<CryptographicAlgorithm>,
}

/// §3.7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DomainParameters {
    /// Q length in bits.
    pub q_length: Option<i32>,
    pub curve: Option<RecommendedCurve>,
}

impl From<AttributeValue> for Attribute {
    fn from(value: AttributeValue) -> Attribute {
        Attribute { index: None, value }
    }
}

impl AttributeValue {
    pub fn text_name(value: &str) -> AttributeValue {
        AttributeValue::Name(Name {
            value: value.to_owned(),
            kind: NameType::Text,
        })
    }

    /// The attribute's name (§9.1.3.1, KMIP 1.x spelling).
    pub fn name(&self) -> &str {
        match self {
            AttributeValue::UniqueIdentifier(_) => "Unique Identifier",
            AttributeValue::Name(_) => "Name",
            AttributeValue::ObjectType(_) => "Object Type",
            AttributeValue::CryptographicAlgorithm(_) => "Cryptographic Algorithm",
            AttributeValue::CryptographicLength(_) => "Cryptographic Length",
            AttributeValue::CryptographicParameters(_) => "Cryptographic Parameters",
            AttributeValue::CryptographicDomainParameters(_) => "Cryptographic Domain Parameters",
            AttributeValue::CryptographicUsageMask(_) => "Cryptographic Usage Mask",
            AttributeValue::State(_) => "State",
            AttributeValue::ActivationDate(_) => "Activation Date",
            AttributeValue::Sensitive(_) => "Sensitive",
            AttributeValue::Extractable(_) => "Extractable",
            AttributeValue::Other { name, .. } => name,
        }
    }

    fn read(name: &str, item: &Item<'_>, lenient: bool) -> Result<AttributeValue, TtlvError> {
        let fields = || item.fields().map(|f| if lenient { f.lenient() } else { f });
        Ok(match name {
            "Unique Identifier" => AttributeValue::UniqueIdentifier(item.text()?.to_owned()),
            "Name" => {
                let mut f = fields()?;
                let value = f.req(tags::NAME_VALUE)?.text()?.to_owned();
                let kind = f.req(tags::NAME_TYPE)?.enumeration()?;
                f.finish()?;
                AttributeValue::Name(Name { value, kind })
            }
            "Object Type" => AttributeValue::ObjectType(item.enumeration()?),
            "Cryptographic Algorithm" => {
                AttributeValue::CryptographicAlgorithm(item.enumeration()?)
            }
            "Cryptographic Length" => AttributeValue::CryptographicLength(item.integer()?),
            "Cryptographic Parameters" => {
                AttributeValue::CryptographicParameters(CryptographicParameters::read(fields()?)?)
            }
            "Cryptographic Domain Parameters" => {
                let mut f = fields()?;
                let q_length = f.opt_integer(tags::QLENGTH)?;
                let curve = f.opt_enum(tags::RECOMMENDED_CURVE)?;
                f.finish()?;
                AttributeValue::CryptographicDomainParameters(DomainParameters { q_length, curve })
            }
            "Cryptographic Usage Mask" => AttributeValue::CryptographicUsageMask(item.integer()?),
            "State" => AttributeValue::State(item.enumeration()?),
            "Activation Date" => AttributeValue::ActivationDate(item.date_time()?),
            "Sensitive" => AttributeValue::Sensitive(item.boolean()?),
            "Extractable" => AttributeValue::Extractable(item.boolean()?),
            _ => AttributeValue::Other {
                name: name.to_owned(),
                kind: item.kind,
                value: item.value.to_vec(),
            },
        })
    }

    fn write(&self, w: &mut Writer) {
        let tag = tags::ATTRIBUTE_VALUE;
        match self {
            AttributeValue::UniqueIdentifier(id) => w.text(tag, id),
            AttributeValue::Name(name) => w.structure(tag, |w| {
                w.text(tags::NAME_VALUE, &name.value);
                w.enumeration(tags::NAME_TYPE, name.kind);
            }),
            AttributeValue::ObjectType(v) => w.enumeration(tag, *v),
            AttributeValue::CryptographicAlgorithm(v) => w.enumeration(tag, *v),
            AttributeValue::CryptographicLength(v) | AttributeValue::CryptographicUsageMask(v) => {
                w.integer(tag, *v)
            }
            AttributeValue::CryptographicParameters(p) => p.write(w, tag),
            AttributeValue::CryptographicDomainParameters(p) => w.structure(tag, |w| {
                w.opt_integer(tags::QLENGTH, p.q_length);
                w.opt_enum(tags::RECOMMENDED_CURVE, p.curve);
            }),
            AttributeValue::State(v) => w.enumeration(tag, *v),
            AttributeValue::ActivationDate(v) => w.date_time(tag, *v),
            AttributeValue::Sensitive(v) | AttributeValue::Extractable(v) => w.boolean(tag, *v),
            AttributeValue::Other { kind, value, .. } => w.raw(tag, *kind, value),
        }
    }
}

impl Attribute {
    pub(crate) fn read(item: &Item<'_>, lenient: bool) -> Result<Attribute, TtlvError> {
        let fields = item.fields()?;
        let mut f = if lenient { fields.lenient() } else { fields };
        let name = f.req(tags::ATTRIBUTE_NAME)?.text()?;
        let index = f.opt_integer(tags::ATTRIBUTE_INDEX)?;
        let value = AttributeValue::read(name, &f.req(tags::ATTRIBUTE_VALUE)?, lenient)?;
        f.finish()?;
        Ok(Attribute { index, value })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.structure(tags::ATTRIBUTE, |w| {
            w.text(tags::ATTRIBUTE_NAME, self.value.name());
            w.opt_integer(tags::ATTRIBUTE_INDEX, self.index);
            self.value.write(w);
        });
    }

    /// All attributes that come next in `fields`.
    pub(crate) fn read_all(
        fields: &mut Fields<'_>,
        lenient: bool,
    ) -> Result<Vec<Attribute>, TtlvError> {
        let mut all = Vec::new();
        while let Some(item) = fields.opt(tags::ATTRIBUTE)? {
            all.push(Attribute::read(&item, lenient)?);
        }
        Ok(all)
    }
}

impl CryptographicParameters {
    pub(crate) fn read(mut f: Fields<'_>) -> Result<CryptographicParameters, TtlvError> {
        // Means nothing for signatures, and PyKMIP's users set it.
        f.opt(tags::BLOCK_CIPHER_MODE)?;
        let padding = f.opt_enum(tags::PADDING_METHOD)?;
        let hashing = f.opt_enum(tags::HASHING_ALGORITHM)?;
        f.opt(tags::KEY_ROLE_TYPE)?;
        let signature_algorithm = f.opt_enum(tags::DIGITAL_SIGNATURE_ALGORITHM)?;
        let algorithm = f.opt_enum(tags::CRYPTOGRAPHIC_ALGORITHM)?;
        f.opt(tags::RANDOM_IV)?;
        f.finish()?;
        Ok(CryptographicParameters {
            padding,
            hashing,
            signature_algorithm,
            algorithm,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer, tag: Tag) {
        w.structure(tag, |w| {
            w.opt_enum(tags::PADDING_METHOD, self.padding);
            w.opt_enum(tags::HASHING_ALGORITHM, self.hashing);
            w.opt_enum(tags::DIGITAL_SIGNATURE_ALGORITHM, self.signature_algorithm);
            w.opt_enum(tags::CRYPTOGRAPHIC_ALGORITHM, self.algorithm);
        });
    }
}
