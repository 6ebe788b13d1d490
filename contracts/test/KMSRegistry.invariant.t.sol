// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KMSRegistry} from "../src/KMSRegistry.sol";
import {NovaAppRegistry} from "../src/dev/NovaAppRegistry.sol";
import {INovaAppRegistry} from "../src/interfaces/INovaAppRegistry.sol";
import {Test} from "./Test.sol";

/// Everybody who may call anything, at random. It keeps its own books of what
/// must have happened and marks a change that had no right to happen.
contract Crowd is Test {
    uint256 private constant PEOPLE = 8;
    address public constant OWNER = address(0xA11CE);

    NovaAppRegistry public apps;
    KMSRegistry public kms;

    bytes32 public hash; // as it must be
    uint256 public appId;
    mapping(address => bool) public expected;
    address[] public everAdded;
    mapping(address => bool) private met;

    constructor() {
        apps = new NovaAppRegistry();
        kms = new KMSRegistry(OWNER, address(apps));
        apps.setVersion(KMS_APP, versionOf(VERSION));
    }

    function person(uint256 seed) private pure returns (address) {
        return wallet(seed % PEOPLE);
    }

    /// Also by those who may not.
    function setMasterSecretHash(uint256 who, bytes32 value) external {
        address caller = who % 16 == 0 ? OWNER : person(who);
        INovaAppRegistry.RuntimeInstance memory i = apps.getInstanceByWallet(caller);
        INovaAppRegistry.AppVersion memory v = apps.getVersion(KMS_APP, VERSION);
        bool may = hash == 0 && value != 0 && appId != 0 && i.instanceId != 0 && i.appId == appId && i.status == 0
            && i.zkVerified && v.status == 0;
        vm.prank(caller);
        try kms.setMasterSecretHash(value) {
            vm.assertTrue(may, "a hash was set that may not be set");
            hash = value;
        } catch {
            vm.assertFalse(may);
        }
    }

    function resetMasterSecretHash(uint256 who) external {
        bool may = who % 4 == 0;
        vm.prank(may ? OWNER : person(who));
        try kms.resetMasterSecretHash() {
            vm.assertTrue(may, "a stranger reset the hash");
            hash = 0;
        } catch {
            vm.assertFalse(may);
        }
    }

    function setKmsAppId(uint256 who, uint256 value) external {
        bool owner = who % 2 == 0;
        value = value % 4 == 0 ? value : KMS_APP;
        vm.prank(owner ? OWNER : person(who));
        try kms.setKmsAppId(value) {
            vm.assertTrue(owner && appId == 0 && value != 0, "kmsAppId was set again");
            appId = value;
        } catch {
            vm.assertFalse(owner && appId == 0 && value != 0);
        }
    }

    function setInstance(uint256 who, uint8 status, bool verified, bool ours) external {
        INovaAppRegistry.RuntimeInstance memory i = instanceOf(person(who), who % PEOPLE + 1, ours ? KMS_APP : 7);
        i.status = status % 4 == 3 ? status : 0;
        i.zkVerified = verified || who % 2 == 0;
        apps.setInstance(i);
    }

    function setVersionStatus(uint8 status) external {
        apps.setVersionStatus(KMS_APP, VERSION, status % 4 == 3 ? status : 0);
    }

    function addOperator(uint256 who, bool registry, uint256 id) external {
        address operator = person(who);
        id = id % 8 == 0 ? id : KMS_APP;
        vm.prank(registry ? address(apps) : operator);
        try kms.addOperator(operator, id, VERSION, 1) {
            vm.assertTrue(registry && appId != 0 && id == appId, "a stranger added an operator");
            expected[operator] = true;
            if (!met[operator]) everAdded.push(operator);
            met[operator] = true;
        } catch {
            vm.assertFalse(registry && appId != 0 && id == appId);
        }
    }

    function removeOperator(uint256 who, bool registry, uint256 id) external {
        address operator = person(who);
        id = id % 8 == 0 ? id : KMS_APP;
        vm.prank(registry ? address(apps) : operator);
        try kms.removeOperator(operator, id, VERSION, 1) {
            vm.assertTrue(registry && appId != 0 && id == appId, "a stranger removed an operator");
            expected[operator] = false;
        } catch {
            vm.assertFalse(registry && appId != 0 && id == appId);
        }
    }

    function everAddedCount() external view returns (uint256) {
        return everAdded.length;
    }
}

contract KMSRegistryInvariantTest is Test {
    Crowd private crowd;
    KMSRegistry private kms;

    function setUp() public {
        crowd = new Crowd();
        kms = crowd.kms();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(crowd);
    }

    /// From zero to set by a node, from set to zero by the owner, no other way.
    function invariant_hash() public view {
        vm.assertEq(kms.masterSecretHash(), crowd.hash());
    }

    function invariant_app_id() public view {
        vm.assertEq(kms.kmsAppId(), crowd.appId());
    }

    function invariant_owner_and_registry() public view {
        vm.assertEq(kms.OWNER(), crowd.OWNER());
        vm.assertEq(kms.novaAppRegistry(), address(crowd.apps()));
    }

    /// No operator twice, none too many, none missing; both views agree.
    function invariant_operators_are_a_set() public view {
        address[] memory all = kms.getOperators();
        uint256 count = 0;
        vm.assertEq(all.length, kms.operatorCount());
        for (uint256 i = 0; i < all.length; i++) {
            vm.assertEq(kms.operatorAt(i), all[i]);
            vm.assertTrue(kms.isOperator(all[i]), "listed, but no operator");
            for (uint256 k = 0; k < i; k++) vm.assertTrue(all[k] != all[i], "listed twice");
        }
        for (uint256 i = 0; i < crowd.everAddedCount(); i++) {
            address operator = crowd.everAdded(i);
            vm.assertEq(kms.isOperator(operator), crowd.expected(operator));
            if (crowd.expected(operator)) count++;
        }
        vm.assertEq(all.length, count);
    }
}
