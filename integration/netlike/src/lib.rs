//! A PKCS#11 module with the manners of a network HSM.
