// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {NovaAppRegistry} from "../src/dev/NovaAppRegistry.sol";
import {INovaAppCallbacks} from "../src/interfaces/INovaAppCallbacks.sol";
import {INovaAppRegistry} from "../src/interfaces/INovaAppRegistry.sol";
import {Test} from "./Test.sol";

/// An app's contract that counts what it is told.
contract Dapp is INovaAppCallbacks {
    uint256 public added;
    uint256 public removed;

    function addOperator(address, uint256, uint256, uint256) external {
        added++;
    }

    function removeOperator(address, uint256, uint256, uint256) external {
        removed++;
    }
}

contract NovaAppRegistryTest is Test {
    uint256 private constant APP = 100;
    NovaAppRegistry private apps;
    Dapp private dapp;

    function setUp() public {
        apps = new NovaAppRegistry();
        dapp = new Dapp();
        apps.setApp(appOf(APP, address(dapp)));
        apps.setVersion(APP, versionOf(VERSION));
    }

    function test_what_is_set_is_read_back() public {
        apps.setInstance(instanceOf(wallet(1), 17, APP));
        same(abi.encode(apps.getApp(APP)), abi.encode(appOf(APP, address(dapp))));
        same(abi.encode(apps.getVersion(APP, VERSION)), abi.encode(versionOf(VERSION)));
        same(abi.encode(apps.getInstanceByWallet(wallet(1))), abi.encode(instanceOf(wallet(1), 17, APP)));
    }

    function test_what_is_not_there_reads_as_zeroes() public view {
        vm.assertEq(apps.getApp(7).appId, 0);
        vm.assertEq(apps.getVersion(APP, 99).versionId, 0);
        vm.assertEq(apps.getInstanceByWallet(wallet(9)).instanceId, 0);
        vm.assertEq(apps.getActiveInstances(7).length, 0);
    }

    function test_active_instances_follow_status_and_app() public {
        apps.setInstance(instanceOf(wallet(1), 1, APP));
        apps.setInstance(instanceOf(wallet(2), 2, APP));
        apps.setInstance(instanceOf(wallet(3), 3, APP));
        active(APP, 3);
        apps.setInstanceStatus(wallet(2), STOPPED);
        active(APP, 2);
        apps.setInstance(instanceOf(wallet(3), 3, 7));
        active(APP, 1);
        active(7, 1);
        apps.setInstance(instanceOf(wallet(3), 3, APP));
        apps.setInstanceStatus(wallet(2), ACTIVE);
        active(APP, 3);
        active(7, 0);
    }

    function test_the_apps_contract_is_told() public {
        apps.setInstance(instanceOf(wallet(1), 1, APP));
        vm.assertEq(dapp.added(), 1);
        apps.setInstanceStatus(wallet(1), STOPPED);
        vm.assertEq(dapp.removed(), 1);
        vm.assertEq(dapp.added(), 1);
        apps.setInstance(instanceOf(wallet(2), 2, 7));
        vm.assertEq(dapp.added(), 1);
    }

    function test_status_setters() public {
        apps.setAppStatus(APP, 2);
        vm.assertEq(apps.getApp(APP).status, 2);
        apps.setVersionStatus(APP, VERSION, 1);
        vm.assertEq(apps.getVersion(APP, VERSION).status, 1);
    }

    function test_ids_of_nobody_are_refused() public {
        bytes4 bad = NovaAppRegistry.BadId.selector;
        vm.expectRevert(bad);
        apps.setApp(appOf(0, address(0)));
        vm.expectRevert(bad);
        apps.setVersion(0, versionOf(VERSION));
        vm.expectRevert(bad);
        apps.setVersion(APP, versionOf(0));
        vm.expectRevert(bad);
        apps.setInstance(instanceOf(wallet(1), 0, APP));
        vm.expectRevert(bad);
        apps.setInstance(instanceOf(wallet(1), 1, 0));
        vm.expectRevert(bad);
        apps.setInstance(instanceOf(address(0), 1, APP));
        vm.expectRevert(bad);
        apps.setAppStatus(7, 0);
        vm.expectRevert(bad);
        apps.setVersionStatus(APP, 99, 0);
        vm.expectRevert(bad);
        apps.setInstanceStatus(wallet(9), 0);
    }

    function testFuzz_only_the_owner_writes(address caller) public {
        bytes4 stranger = NovaAppRegistry.NotOwner.selector;
        vm.assume(caller != address(this));
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setApp(appOf(APP, caller));
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setVersion(APP, versionOf(VERSION));
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setInstance(instanceOf(caller, 1, APP));
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setAppStatus(APP, 0);
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setVersionStatus(APP, VERSION, 0);
        vm.prank(caller);
        vm.expectRevert(stranger);
        apps.setInstanceStatus(caller, 0);
    }

    function same(bytes memory a, bytes memory b) private pure {
        vm.assertEq(keccak256(a), keccak256(b));
    }

    function active(uint256 appId, uint256 count) private view {
        address[] memory list = apps.getActiveInstances(appId);
        vm.assertEq(list.length, count);
        for (uint256 i = 0; i < count; i++) {
            INovaAppRegistry.RuntimeInstance memory instance = apps.getInstanceByWallet(list[i]);
            vm.assertEq(instance.appId, appId);
            vm.assertEq(instance.status, ACTIVE);
        }
    }
}
