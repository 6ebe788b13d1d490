// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {INovaAppCallbacks} from "./INovaAppCallbacks.sol";

/// Where the nodes of the KMS agree on one master secret, by its hash.
interface IKMSRegistry is INovaAppCallbacks {
    error NotOwner();
    error OnlyNovaAppRegistry();
    error InvalidRegistryAddress();
    error AppIdMismatch();
    error MasterSecretHashAlreadySet();
    error NotAuthorizedToSetHash();
    error AppIdAlreadySet();

    event NovaAppRegistrySet(address indexed registry);
    event KmsAppIdSet(uint256 indexed appId);
    event MasterSecretHashSet(bytes32 indexed hash, address indexed setBy);
    event MasterSecretHashReset(address indexed resetBy);
    event OperatorAdded(address indexed operator, uint256 indexed appId, uint256 versionId, uint256 instanceId);
    event OperatorRemoved(address indexed operator, uint256 indexed appId, uint256 versionId, uint256 instanceId);

    function OWNER() external view returns (address);

    function novaAppRegistry() external view returns (address);

    /// By the owner; calls of the operators' callbacks are taken from it alone
    /// from then on.
    function setNovaAppRegistry(address registry) external;

    /// The app whose instances are the nodes; 0 until it is set.
    function kmsAppId() external view returns (uint256);

    /// By the owner, once.
    function setKmsAppId(uint256 appId) external;

    /// keccak256(master secret); 0 while there is none.
    function masterSecretHash() external view returns (bytes32);

    /// By a node, while it is zero: the first one wins.
    function setMasterSecretHash(bytes32 hash) external;

    /// By the owner: zero again, so that the nodes start with a new secret.
    function resetMasterSecretHash() external;

    function isOperator(address account) external view returns (bool);

    function operatorCount() external view returns (uint256);

    /// In no particular order; an index moves when another operator goes.
    function operatorAt(uint256 index) external view returns (address);

    function getOperators() external view returns (address[] memory);
}
