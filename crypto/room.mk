# The field's computations (PROTOCOL.md sections 1, 3 and 4), without state.
# For the keeper and for clients; never for kms-net, kms-chain or kmsd.
crypto_SRC := crypto/crypto.c crypto/aead.c crypto/aes_block.c \
	crypto/eip1559.c crypto/envelope.c crypto/json_text.c crypto/kdf.c \
	crypto/p384.c crypto/pop.c crypto/rlp.c crypto/sha256.c \
	crypto/signature.c crypto/wallet.c
crypto_USES := common
crypto_LIBS := -lcrypto -lsecp256k1
