// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IKMSRegistry} from "./interfaces/IKMSRegistry.sol";
import {INovaAppRegistry} from "./interfaces/INovaAppRegistry.sol";

/// Not upgradeable and without a proxy: what the nodes agree on is decided by
/// the code at this address and by nothing else.
contract KMSRegistry is IKMSRegistry {
    uint8 private constant INSTANCE_ACTIVE = 0;
    uint8 private constant VERSION_ENROLLED = 0;

    address public immutable OWNER;

    address public novaAppRegistry;
    uint256 public kmsAppId;
    bytes32 public masterSecretHash;

    address[] private operators;
    mapping(address => uint256) private place; // in operators, from 1; 0: none

    modifier onlyOwner() {
        if (msg.sender != OWNER) revert NotOwner();
        _;
    }

    modifier onlyRegistryFor(uint256 appId) {
        if (msg.sender != novaAppRegistry) revert OnlyNovaAppRegistry();
        // No app has the ID 0, so nobody is an operator before it is set.
        if (appId == 0 || appId != kmsAppId) revert AppIdMismatch();
        _;
    }

    constructor(address initialOwner, address appRegistry) {
        if (initialOwner == address(0)) revert NotOwner();
        OWNER = initialOwner;
        putRegistry(appRegistry);
    }

    // ---- the owner's ----

    function setNovaAppRegistry(address registry) external onlyOwner {
        putRegistry(registry);
    }

    function setKmsAppId(uint256 appId) external onlyOwner {
        if (kmsAppId != 0) revert AppIdAlreadySet();
        // 0 would leave it to be set again.
        if (appId == 0) revert AppIdMismatch();
        kmsAppId = appId;
        emit KmsAppIdSet(appId);
    }

    function resetMasterSecretHash() external onlyOwner {
        masterSecretHash = bytes32(0);
        emit MasterSecretHashReset(msg.sender);
    }

    // ---- the nodes' ----

    function setMasterSecretHash(bytes32 hash) external {
        if (masterSecretHash != bytes32(0)) revert MasterSecretHashAlreadySet();
        // Zero would look unset, and two nodes would both win.
        if (hash == bytes32(0) || !isNode(msg.sender)) revert NotAuthorizedToSetHash();
        masterSecretHash = hash;
        emit MasterSecretHashSet(hash, msg.sender);
    }

    // ---- the app registry's ----

    function addOperator(address wallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external
        onlyRegistryFor(appId)
    {
        if (place[wallet] != 0) return;
        operators.push(wallet);
        place[wallet] = operators.length;
        emit OperatorAdded(wallet, appId, versionId, instanceId);
    }

    function removeOperator(address wallet, uint256 appId, uint256 versionId, uint256 instanceId)
        external
        onlyRegistryFor(appId)
    {
        uint256 hole = place[wallet];
        if (hole == 0) return;
        // The last one moves into the hole: as cheap with a thousand as with one.
        address last = operators[operators.length - 1];
        operators[hole - 1] = last;
        place[last] = hole;
        operators.pop();
        delete place[wallet];
        emit OperatorRemoved(wallet, appId, versionId, instanceId);
    }

    // ---- everybody's ----

    function isOperator(address account) external view returns (bool) {
        return place[account] != 0;
    }

    function operatorCount() external view returns (uint256) {
        return operators.length;
    }

    function operatorAt(uint256 index) external view returns (address) {
        return operators[index];
    }

    function getOperators() external view returns (address[] memory) {
        return operators;
    }

    // ---- within ----

    function putRegistry(address registry) private {
        if (registry == address(0)) revert InvalidRegistryAddress();
        novaAppRegistry = registry;
        emit NovaAppRegistrySet(registry);
    }

    /// Is this the wallet of an ACTIVE, verified instance of the KMS's app
    /// that runs an ENROLLED version? The list of operators is not asked: it
    /// says who was registered, not who may run.
    function isNode(address wallet) private view returns (bool) {
        // Without code there a call would revert here, not there.
        if (kmsAppId == 0 || novaAppRegistry.code.length == 0) return false;
        INovaAppRegistry registry = INovaAppRegistry(novaAppRegistry);
        try registry.getInstanceByWallet(wallet) returns (INovaAppRegistry.RuntimeInstance memory instance) {
            if (instance.instanceId == 0 || instance.appId != kmsAppId || instance.teeWalletAddress != wallet) {
                return false;
            }
            if (instance.status != INSTANCE_ACTIVE || !instance.zkVerified) return false;
            return isEnrolled(registry, instance.versionId);
        } catch {
            return false;
        }
    }

    /// A version that is not there reads as zeroes, and 0 is ENROLLED: it is
    /// its ID that tells.
    function isEnrolled(INovaAppRegistry registry, uint256 versionId) private view returns (bool) {
        try registry.getVersion(kmsAppId, versionId) returns (INovaAppRegistry.AppVersion memory version) {
            return versionId != 0 && version.versionId == versionId && version.status == VERSION_ENROLLED;
        } catch {
            return false;
        }
    }
}
