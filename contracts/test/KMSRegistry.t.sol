// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KMSRegistry} from "../src/KMSRegistry.sol";
import {NovaAppRegistry} from "../src/dev/NovaAppRegistry.sol";
import {IKMSRegistry} from "../src/interfaces/IKMSRegistry.sol";
import {INovaAppRegistry} from "../src/interfaces/INovaAppRegistry.sol";
import {Test, Vm} from "./Test.sol";

/// A registry that answers the instance and the version as told: properly, by
/// a revert, or with a version of another number.
contract OddRegistry {
    INovaAppRegistry.RuntimeInstance private instance;
    INovaAppRegistry.AppVersion private version;
    bool private instanceReverts;
    bool private versionReverts;

    function put(INovaAppRegistry.RuntimeInstance calldata i, INovaAppRegistry.AppVersion calldata v) external {
        instance = i;
        version = v;
    }

    function breakCalls(bool ofInstance, bool ofVersion) external {
        instanceReverts = ofInstance;
        versionReverts = ofVersion;
    }

    function getInstanceByWallet(address) external view returns (INovaAppRegistry.RuntimeInstance memory) {
        require(!instanceReverts, "no such instance");
        return instance;
    }

    function getVersion(uint256, uint256) external view returns (INovaAppRegistry.AppVersion memory) {
        require(!versionReverts, "no such version");
        return version;
    }
}

contract KMSRegistryTest is Test {
    address private constant OWNER = address(0xA11CE);
    bytes32 private constant HASH = keccak256("secret");

    NovaAppRegistry private apps;
    KMSRegistry private kms;
    address private node;

    function setUp() public {
        node = wallet(1);
        apps = new NovaAppRegistry();
        kms = new KMSRegistry(OWNER, address(apps));
        vm.prank(OWNER);
        kms.setKmsAppId(KMS_APP);
        apps.setApp(appOf(KMS_APP, address(kms)));
        apps.setVersion(KMS_APP, versionOf(VERSION));
        apps.setInstance(instanceOf(node, 17, KMS_APP));
    }

    // ---- deployment and ownership ----

    function test_constructor_sets_owner_and_registry() public {
        vm.recordLogs();
        KMSRegistry fresh = new KMSRegistry(OWNER, address(apps));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1);
        vm.assertEq(logs[0].topics[0], IKMSRegistry.NovaAppRegistrySet.selector);
        vm.assertEq(logs[0].topics[1], bytes32(uint256(uint160(address(apps)))));
        vm.assertEq(fresh.OWNER(), OWNER);
        vm.assertEq(fresh.novaAppRegistry(), address(apps));
        vm.assertEq(fresh.kmsAppId(), 0);
        vm.assertEq(fresh.masterSecretHash(), bytes32(0));
        vm.assertEq(fresh.operatorCount(), 0);
    }

    function test_constructor_refuses_no_registry() public {
        vm.expectRevert(IKMSRegistry.InvalidRegistryAddress.selector);
        new KMSRegistry(OWNER, address(0));
    }

    function test_constructor_refuses_no_owner() public {
        vm.expectRevert(IKMSRegistry.NotOwner.selector);
        new KMSRegistry(address(0), address(apps));
    }

    function testFuzz_only_the_owner_configures(address caller) public {
        vm.assume(caller != OWNER);
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.NotOwner.selector);
        kms.setNovaAppRegistry(address(1));
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.NotOwner.selector);
        kms.setKmsAppId(7);
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.NotOwner.selector);
        kms.resetMasterSecretHash();
    }

    function test_registry_changes_hands() public {
        vm.expectEmit(true, true, true, true, address(kms));
        emit IKMSRegistry.NovaAppRegistrySet(address(0xBEEF));
        vm.prank(OWNER);
        kms.setNovaAppRegistry(address(0xBEEF));
        vm.assertEq(kms.novaAppRegistry(), address(0xBEEF));
        vm.prank(address(apps));
        vm.expectRevert(IKMSRegistry.OnlyNovaAppRegistry.selector);
        kms.addOperator(wallet(2), KMS_APP, VERSION, 1);
        vm.prank(address(0xBEEF));
        kms.addOperator(wallet(2), KMS_APP, VERSION, 1);
        vm.assertTrue(kms.isOperator(wallet(2)));
    }

    function test_registry_zero_is_refused() public {
        vm.prank(OWNER);
        vm.expectRevert(IKMSRegistry.InvalidRegistryAddress.selector);
        kms.setNovaAppRegistry(address(0));
    }

    // ---- kmsAppId ----

    function testFuzz_app_id_is_set_once(uint256 first, uint256 second) public {
        vm.assume(first != 0);
        KMSRegistry fresh = new KMSRegistry(OWNER, address(apps));
        vm.expectEmit(true, true, true, true, address(fresh));
        emit IKMSRegistry.KmsAppIdSet(first);
        vm.prank(OWNER);
        fresh.setKmsAppId(first);
        vm.prank(OWNER);
        vm.expectRevert(IKMSRegistry.AppIdAlreadySet.selector);
        fresh.setKmsAppId(second);
        vm.assertEq(fresh.kmsAppId(), first);
    }

    function test_app_id_zero_is_refused() public {
        KMSRegistry fresh = new KMSRegistry(OWNER, address(apps));
        vm.prank(OWNER);
        vm.expectRevert(IKMSRegistry.AppIdMismatch.selector);
        fresh.setKmsAppId(0);
    }

    // ---- the hash ----

    function testFuzz_a_node_sets_the_hash_once(bytes32 hash, bytes32 other) public {
        vm.assume(hash != 0);
        vm.expectEmit(true, true, true, true, address(kms));
        emit IKMSRegistry.MasterSecretHashSet(hash, node);
        vm.prank(node);
        kms.setMasterSecretHash(hash);
        vm.assertEq(kms.masterSecretHash(), hash);
        vm.prank(node);
        vm.expectRevert(IKMSRegistry.MasterSecretHashAlreadySet.selector);
        kms.setMasterSecretHash(other);
        vm.assertEq(kms.masterSecretHash(), hash);
    }

    function test_the_second_node_loses() public {
        apps.setInstance(instanceOf(wallet(2), 18, KMS_APP));
        set(wallet(2), HASH);
        vm.prank(node);
        vm.expectRevert(IKMSRegistry.MasterSecretHashAlreadySet.selector);
        kms.setMasterSecretHash(keccak256("another"));
        vm.assertEq(kms.masterSecretHash(), HASH);
    }

    function test_reset_lets_a_node_set_it_again() public {
        set(node, HASH);
        vm.expectEmit(true, true, true, true, address(kms));
        emit IKMSRegistry.MasterSecretHashReset(OWNER);
        vm.prank(OWNER);
        kms.resetMasterSecretHash();
        vm.assertEq(kms.masterSecretHash(), bytes32(0));
        set(node, keccak256("next"));
        vm.assertEq(kms.masterSecretHash(), keccak256("next"));
    }

    function test_hash_zero_is_refused() public {
        refused(kms, node, bytes32(0));
    }

    function testFuzz_strangers_are_refused(address caller) public {
        vm.assume(caller != node);
        refused(kms, caller, HASH);
    }

    function test_the_owner_is_no_node() public {
        refused(kms, OWNER, HASH);
    }

    function test_an_operator_without_an_instance_is_no_node() public {
        vm.prank(address(apps));
        kms.addOperator(wallet(9), KMS_APP, VERSION, 99);
        refused(kms, wallet(9), HASH);
    }

    function testFuzz_other_apps_are_refused(uint256 appId) public {
        vm.assume(appId != KMS_APP && appId != 0);
        apps.setVersion(appId, versionOf(VERSION));
        apps.setInstance(instanceOf(wallet(2), 18, appId));
        refused(kms, wallet(2), HASH);
    }

    function testFuzz_only_active_instances(uint8 status) public {
        apps.setInstanceStatus(node, status);
        if (status == ACTIVE) set(node, HASH);
        else refused(kms, node, HASH);
    }

    function testFuzz_only_enrolled_versions(uint8 status) public {
        apps.setVersionStatus(KMS_APP, VERSION, status);
        if (status == ENROLLED) set(node, HASH);
        else refused(kms, node, HASH);
    }

    function test_an_unverified_instance_is_refused() public {
        INovaAppRegistry.RuntimeInstance memory instance = instanceOf(node, 17, KMS_APP);
        instance.zkVerified = false;
        apps.setInstance(instance);
        refused(kms, node, HASH);
    }

    function test_a_version_that_is_not_there_is_refused() public {
        INovaAppRegistry.RuntimeInstance memory instance = instanceOf(node, 17, KMS_APP);
        instance.versionId = VERSION + 1;
        apps.setInstance(instance);
        refused(kms, node, HASH);
    }

    function test_before_the_app_is_known_nobody_is_a_node() public {
        refused(new KMSRegistry(OWNER, address(apps)), node, HASH);
    }

    function test_before_the_app_is_known_app_zero_is_nobody_either() public {
        OddRegistry registry = odd();
        registry.put(instanceOf(node, 17, 0), versionOf(VERSION));
        refused(new KMSRegistry(OWNER, address(registry)), node, HASH);
    }

    function test_a_registry_without_code_authorises_nobody() public {
        vm.prank(OWNER);
        kms.setNovaAppRegistry(address(0xBEEF));
        refused(kms, node, HASH);
    }

    // ---- what a registry may answer ----

    function odd() private returns (OddRegistry registry) {
        registry = new OddRegistry();
        registry.put(instanceOf(node, 17, KMS_APP), versionOf(VERSION));
        vm.prank(OWNER);
        kms.setNovaAppRegistry(address(registry));
    }

    function test_a_stand_in_that_answers_both_calls_suffices() public {
        odd();
        set(node, HASH);
    }

    function test_a_reverting_instance_is_not_authorised() public {
        odd().breakCalls(true, false);
        refused(kms, node, HASH);
    }

    function test_a_reverting_version_is_not_authorised() public {
        odd().breakCalls(false, true);
        refused(kms, node, HASH);
    }

    function test_an_answer_about_another_wallet_is_not_authorised() public {
        odd();
        refused(kms, wallet(2), HASH);
    }

    function test_an_instance_without_an_id_is_not_authorised() public {
        odd().put(instanceOf(node, 0, KMS_APP), versionOf(VERSION));
        refused(kms, node, HASH);
    }

    function test_an_answer_about_another_version_is_not_authorised() public {
        odd().put(instanceOf(node, 17, KMS_APP), versionOf(VERSION + 1));
        refused(kms, node, HASH);
    }

    function test_version_zero_is_not_authorised() public {
        INovaAppRegistry.RuntimeInstance memory instance = instanceOf(node, 17, KMS_APP);
        instance.versionId = 0;
        odd().put(instance, versionOf(0));
        refused(kms, node, HASH);
    }

    // ---- operators ----

    function testFuzz_only_the_registry_tells_operators(address caller) public {
        vm.assume(caller != address(apps));
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.OnlyNovaAppRegistry.selector);
        kms.addOperator(node, KMS_APP, VERSION, 1);
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.OnlyNovaAppRegistry.selector);
        kms.removeOperator(node, KMS_APP, VERSION, 1);
    }

    function testFuzz_operators_of_other_apps_are_refused(uint256 appId) public {
        vm.assume(appId != KMS_APP);
        vm.prank(address(apps));
        vm.expectRevert(IKMSRegistry.AppIdMismatch.selector);
        kms.addOperator(wallet(2), appId, VERSION, 1);
        vm.prank(address(apps));
        vm.expectRevert(IKMSRegistry.AppIdMismatch.selector);
        kms.removeOperator(node, appId, VERSION, 1);
        vm.assertTrue(kms.isOperator(node));
    }

    function test_before_the_app_is_known_nobody_is_an_operator() public {
        KMSRegistry fresh = new KMSRegistry(OWNER, address(apps));
        vm.prank(address(apps));
        vm.expectRevert(IKMSRegistry.AppIdMismatch.selector);
        fresh.addOperator(node, 0, VERSION, 1);
    }

    function test_operators_come_and_go_with_their_instances() public {
        vm.assertTrue(kms.isOperator(node));
        apps.setInstanceStatus(node, STOPPED);
        vm.assertFalse(kms.isOperator(node));
        apps.setInstanceStatus(node, ACTIVE);
        vm.assertTrue(kms.isOperator(node));
        vm.assertEq(kms.operatorCount(), 1);
        vm.assertEq(kms.operatorAt(0), node);
    }

    function test_adding_and_removing_is_idempotent_and_silent() public {
        vm.expectEmit(true, true, true, true, address(kms));
        emit IKMSRegistry.OperatorAdded(wallet(2), KMS_APP, VERSION, 18);
        add(wallet(2), 18);
        vm.recordLogs();
        add(wallet(2), 18);
        remove(wallet(3), 19);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertEq(kms.operatorCount(), 2);
        vm.expectEmit(true, true, true, true, address(kms));
        emit IKMSRegistry.OperatorRemoved(wallet(2), KMS_APP, VERSION, 18);
        remove(wallet(2), 18);
        vm.recordLogs();
        remove(wallet(2), 18);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertEq(kms.operatorCount(), 1);
    }

    function test_an_index_past_the_end_reverts() public {
        vm.expectRevert();
        kms.operatorAt(1);
    }

    function testFuzz_any_one_may_go(uint8 count, uint8 which) public {
        uint256 n = uint256(count) % 20 + 1;
        uint256 gone = uint256(which) % n;
        KMSRegistry fresh = new KMSRegistry(OWNER, address(this));
        vm.prank(OWNER);
        fresh.setKmsAppId(KMS_APP);
        for (uint256 i = 0; i < n; i++) fresh.addOperator(wallet(i), KMS_APP, VERSION, i + 1);
        fresh.removeOperator(wallet(gone), KMS_APP, VERSION, gone + 1);
        vm.assertEq(fresh.operatorCount(), n - 1);
        vm.assertEq(fresh.getOperators().length, n - 1);
        for (uint256 i = 0; i < n; i++) vm.assertEq(fresh.isOperator(wallet(i)), i != gone);
    }

    function test_a_thousand_operators_cost_no_more_than_ten() public {
        vm.assertLe(removalGas(1000), removalGas(10) + 1000);
    }

    function removalGas(uint256 count) private returns (uint256 gas) {
        KMSRegistry fresh = new KMSRegistry(OWNER, address(this));
        vm.prank(OWNER);
        fresh.setKmsAppId(KMS_APP);
        for (uint256 i = 0; i < count; i++) fresh.addOperator(wallet(i), KMS_APP, VERSION, i + 1);
        gas = gasleft();
        fresh.removeOperator(wallet(3), KMS_APP, VERSION, 4);
        fresh.addOperator(wallet(3), KMS_APP, VERSION, 4);
        gas -= gasleft();
    }

    // ---- helpers ----

    function set(address caller, bytes32 hash) private {
        vm.prank(caller);
        kms.setMasterSecretHash(hash);
    }

    function refused(KMSRegistry registry, address caller, bytes32 hash) private {
        vm.prank(caller);
        vm.expectRevert(IKMSRegistry.NotAuthorizedToSetHash.selector);
        registry.setMasterSecretHash(hash);
        vm.assertEq(registry.masterSecretHash(), bytes32(0));
    }

    function add(address operator, uint256 instanceId) private {
        vm.prank(address(apps));
        kms.addOperator(operator, KMS_APP, VERSION, instanceId);
    }

    function remove(address operator, uint256 instanceId) private {
        vm.prank(address(apps));
        kms.removeOperator(operator, KMS_APP, VERSION, instanceId);
    }
}
