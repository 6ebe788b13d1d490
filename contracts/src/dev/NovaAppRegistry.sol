// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {INovaAppCallbacks} from "../interfaces/INovaAppCallbacks.sol";
import {INovaAppRegistry} from "../interfaces/INovaAppRegistry.sol";

/// A registry for development chains and tests: its owner writes down whatever
/// is to be the case. Nothing is proved here; never deploy it where it counts.
contract NovaAppRegistry is INovaAppRegistry {
    error NotOwner();
    error BadId();

    address public immutable OWNER;

    mapping(uint256 => App) private apps;
    mapping(uint256 => mapping(uint256 => AppVersion)) private versions;
    mapping(address => RuntimeInstance) private instances;
    mapping(uint256 => address[]) private wallets; // ever seen with this app
    mapping(uint256 => mapping(address => bool)) private seen;

    modifier onlyOwner() {
        if (msg.sender != OWNER) revert NotOwner();
        _;
    }

    constructor() {
        OWNER = msg.sender;
    }

    /// Create or replace; so do the next two. dappContract, if not zero, is
    /// told of the app's operators from then on.
    function setApp(App calldata app) external onlyOwner {
        if (app.appId == 0) revert BadId();
        apps[app.appId] = app;
    }

    function setVersion(uint256 appId, AppVersion calldata version) external onlyOwner {
        if (appId == 0 || version.versionId == 0) revert BadId();
        versions[appId][version.versionId] = version;
    }

    function setInstance(RuntimeInstance calldata instance) external onlyOwner {
        address wallet = instance.teeWalletAddress;
        if (instance.instanceId == 0 || instance.appId == 0 || wallet == address(0)) revert BadId();
        leave(wallet);
        instances[wallet] = instance;
        if (!seen[instance.appId][wallet]) {
            seen[instance.appId][wallet] = true;
            wallets[instance.appId].push(wallet);
        }
        enter(wallet);
    }

    function setAppStatus(uint256 appId, uint8 status) external onlyOwner {
        if (apps[appId].appId == 0) revert BadId();
        apps[appId].status = status;
    }

    function setVersionStatus(uint256 appId, uint256 versionId, uint8 status) external onlyOwner {
        if (versions[appId][versionId].versionId == 0) revert BadId();
        versions[appId][versionId].status = status;
    }

    function setInstanceStatus(address wallet, uint8 status) external onlyOwner {
        if (instances[wallet].instanceId == 0) revert BadId();
        leave(wallet);
        instances[wallet].status = status;
        enter(wallet);
    }

    function getApp(uint256 appId) external view returns (App memory) {
        return apps[appId];
    }

    function getVersion(uint256 appId, uint256 versionId) external view returns (AppVersion memory) {
        return versions[appId][versionId];
    }

    function getInstanceByWallet(address wallet) external view returns (RuntimeInstance memory) {
        return instances[wallet];
    }

    function getActiveInstances(uint256 appId) external view returns (address[] memory active) {
        address[] storage all = wallets[appId];
        uint256 count;
        active = new address[](all.length);
        for (uint256 i = 0; i < all.length; i++) {
            if (isActive(all[i], appId)) active[count++] = all[i];
        }
        assembly ("memory-safe") {
            mstore(active, count)
        }
    }

    function isActive(address wallet, uint256 appId) private view returns (bool) {
        RuntimeInstance storage instance = instances[wallet];
        return instance.appId == appId && instance.status == 0;
    }

    function enter(address wallet) private {
        RuntimeInstance storage i = instances[wallet];
        address dapp = apps[i.appId].dappContract;
        if (dapp == address(0) || i.status != 0) return;
        INovaAppCallbacks(dapp).addOperator(wallet, i.appId, i.versionId, i.instanceId);
    }

    function leave(address wallet) private {
        RuntimeInstance storage i = instances[wallet];
        address dapp = apps[i.appId].dappContract;
        if (dapp == address(0) || i.instanceId == 0) return;
        INovaAppCallbacks(dapp).removeOperator(wallet, i.appId, i.versionId, i.instanceId);
    }
}
