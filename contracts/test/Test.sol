// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {INovaAppRegistry} from "../src/interfaces/INovaAppRegistry.sol";

/// The cheat codes of forge that are used here.
interface Vm {
    function prank(address sender) external;
    function assume(bool condition) external pure;
    function expectRevert(bytes4 error) external;
    function expectRevert() external;
    function expectEmit(bool, bool, bool, bool, address emitter) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function assertEq(bool, bool) external pure;
    function assertEq(uint256, uint256) external pure;
    function assertEq(address, address) external pure;
    function assertEq(bytes32, bytes32) external pure;
    function assertEq(address[] calldata, address[] calldata) external pure;
    function assertTrue(bool) external pure;
    function assertTrue(bool, string calldata) external pure;
    function assertFalse(bool) external pure;
    function assertLe(uint256, uint256) external pure;

    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }
}

abstract contract Test {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    uint256 internal constant KMS_APP = 49;
    uint256 internal constant VERSION = 3;
    uint8 internal constant ACTIVE = 0;
    uint8 internal constant STOPPED = 1;
    uint8 internal constant ENROLLED = 0;

    function wallet(uint256 i) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("wallet", i)))));
    }

    function instanceOf(address tee, uint256 id, uint256 appId)
        internal
        pure
        returns (INovaAppRegistry.RuntimeInstance memory instance)
    {
        instance.instanceId = id;
        instance.appId = appId;
        instance.versionId = VERSION;
        instance.operator = tee;
        instance.instanceUrl = "https://node.example.net";
        instance.teePubkey = hex"3076";
        instance.teeWalletAddress = tee;
        instance.zkVerified = true;
        instance.status = ACTIVE;
        instance.registeredAt = 1767225600;
    }

    function versionOf(uint256 id) internal pure returns (INovaAppRegistry.AppVersion memory version) {
        version.versionId = id;
        version.versionName = "v1.0.0";
        version.status = ENROLLED;
    }

    function appOf(uint256 id, address dapp) internal pure returns (INovaAppRegistry.App memory app) {
        app.appId = id;
        app.dappContract = dapp;
        app.latestVersionId = VERSION;
        app.metadataUri = "ipfs://example";
    }
}
