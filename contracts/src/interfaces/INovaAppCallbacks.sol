// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// What the registry calls on an app's contract when an instance of the app
/// becomes ACTIVE or ceases to be.
interface INovaAppCallbacks {
    function addOperator(address wallet, uint256 appId, uint256 versionId, uint256 instanceId) external;

    function removeOperator(address wallet, uint256 appId, uint256 versionId, uint256 instanceId) external;
}
