// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KMSRegistry} from "../src/KMSRegistry.sol";
import {NovaAppRegistry} from "../src/dev/NovaAppRegistry.sol";
import {INovaAppRegistry} from "../src/interfaces/INovaAppRegistry.sol";

interface Vm {
    function prank(address sender) external;
    function serializeUint(string calldata, string calldata, uint256) external returns (string memory);
    function serializeBool(string calldata, string calldata, bool) external returns (string memory);
    function serializeBytes(string calldata, string calldata, bytes calldata) external returns (string memory);
    function serializeBytes32(string calldata, string calldata, bytes32) external returns (string memory);
    function serializeString(string calldata, string calldata, string calldata) external returns (string memory);
    function serializeString(string calldata, string calldata, string[] calldata) external returns (string memory);
    function serializeAddress(string calldata, string calldata, address) external returns (string memory);
    function serializeAddress(string calldata, string calldata, address[] calldata) external returns (string memory);
    function writeJson(string calldata json, string calldata path) external;
}

/// Writes what both contracts are asked and what they answer, as bytes and
/// member by member, for a decoder that was not made from the same source
/// (`make contracts` compares it with regress/vectors/contracts/abi.json).
contract EncodingsTest {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    uint256 private constant APP = 49;
    uint256 private constant VERSION = 3;
    address private constant NODE = 0x1111111111111111111111111111111111111111;
    address private constant OTHER = 0x2222222222222222222222222222222222222222;
    address private constant NOBODY = 0x9999999999999999999999999999999999999999;

    NovaAppRegistry private apps;
    KMSRegistry private kms;
    string private last;

    function test_write_encodings() external {
        apps = new NovaAppRegistry();
        kms = new KMSRegistry(address(this), address(apps));
        kms.setKmsAppId(APP);
        putApp();
        putVersion();
        putInstances();
        vm.prank(NODE);
        kms.setMasterSecretHash(keccak256("master secret"));
        record();
        vm.writeJson(last, "cache/encodings.json");
    }

    function putApp() private {
        INovaAppRegistry.App memory app;
        app.appId = APP;
        app.owner = 0x3333333333333333333333333333333333333333;
        app.teeArch = "nitro";
        app.dappContract = address(kms);
        app.metadataUri = "ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        app.latestVersionId = VERSION;
        app.createdAt = 1700000001;
        app.status = 0;
        app.appWallet = 0x4444444444444444444444444444444444444444;
        apps.setApp(app);
    }

    function putVersion() private {
        INovaAppRegistry.AppVersion memory version;
        version.versionId = VERSION;
        version.versionName = "v1.2.3";
        version.codeMeasurement = keccak256("measurement");
        version.imageUri = "registry.example.net/kms@sha256:0000000000000000000000000000000000000000000000000000000000000000";
        version.auditUrl = "";
        version.auditHash = "0xab";
        version.githubRunId = "1234567890";
        version.status = 0;
        version.enrolledAt = 1700000002;
        version.enrolledBy = 0x5555555555555555555555555555555555555555;
        apps.setVersion(APP, version);
        version.versionId = VERSION + 1;
        version.status = 2;
        apps.setVersion(APP, version);
    }

    function putInstances() private {
        INovaAppRegistry.RuntimeInstance memory instance;
        instance.instanceId = 17;
        instance.appId = APP;
        instance.versionId = VERSION;
        instance.operator = 0x6666666666666666666666666666666666666666;
        instance.instanceUrl = "https://kms-1.example.net:8443";
        // Not a key; as long as one.
        instance.teePubkey = new bytes(120);
        for (uint256 i = 0; i < 120; i++) instance.teePubkey[i] = bytes1(uint8(i + 1));
        instance.teeWalletAddress = NODE;
        instance.zkVerified = true;
        instance.status = 0;
        instance.registeredAt = 1700000003;
        apps.setInstance(instance);
        instance.instanceId = 18;
        instance.teeWalletAddress = OTHER;
        apps.setInstance(instance);
        instance.zkVerified = false;
        instance.status = 2;
        apps.setInstance(instance);
    }

    // ---- recording ----

    function record() private {
        row("0 getInstanceByWallet", address(apps), abi.encodeCall(apps.getInstanceByWallet, (NODE)), fields(NODE));
        row("1 getInstanceByWallet", address(apps), abi.encodeCall(apps.getInstanceByWallet, (OTHER)), fields(OTHER));
        row("2 getInstanceByWallet", address(apps), abi.encodeCall(apps.getInstanceByWallet, (NOBODY)), fields(NOBODY));
        row("3 getApp", address(apps), abi.encodeCall(apps.getApp, (APP)), appFields(APP));
        row("4 getApp", address(apps), abi.encodeCall(apps.getApp, (7)), appFields(7));
        row("5 getVersion", address(apps), abi.encodeCall(apps.getVersion, (APP, 3)), versionFields(APP, 3));
        row("6 getVersion", address(apps), abi.encodeCall(apps.getVersion, (APP, 4)), versionFields(APP, 4));
        row("7 getVersion", address(apps), abi.encodeCall(apps.getVersion, (APP, 5)), versionFields(APP, 5));
        wallets("8 getActiveInstances", address(apps), abi.encodeCall(apps.getActiveInstances, (APP)));
        wallets("9 getActiveInstances", address(apps), abi.encodeCall(apps.getActiveInstances, (7)));
        wallets("A getOperators", address(kms), abi.encodeCall(kms.getOperators, ()));
        word("B masterSecretHash", abi.encodeCall(kms.masterSecretHash, ()));
        word("C kmsAppId", abi.encodeCall(kms.kmsAppId, ()));
        word("D isOperator", abi.encodeCall(kms.isOperator, (NODE)));
        word("E isOperator", abi.encodeCall(kms.isOperator, (OTHER)));
        revertRow("F MasterSecretHashAlreadySet", NODE, abi.encodeCall(kms.setMasterSecretHash, ("again")));
        kms.resetMasterSecretHash();
        revertRow("G NotAuthorizedToSetHash", OTHER, abi.encodeCall(kms.setMasterSecretHash, ("mine")));
        revertRow("H NotOwner", OTHER, abi.encodeCall(kms.resetMasterSecretHash, ()));
        revertRow("I AppIdAlreadySet", address(this), abi.encodeCall(kms.setKmsAppId, (1)));
        revertRow("J OnlyNovaAppRegistry", OTHER, abi.encodeCall(kms.addOperator, (OTHER, APP, 3, 1)));
        revertRow("K AppIdMismatch", address(apps), abi.encodeCall(kms.addOperator, (OTHER, 7, 3, 1)));
        revertRow("L InvalidRegistryAddress", address(this), abi.encodeCall(kms.setNovaAppRegistry, (address(0))));
    }

    function row(string memory name, address to, bytes memory call, string memory expected) private {
        (bool ok, bytes memory data) = to.call(call);
        require(ok, name);
        vm.serializeBytes(name, "calldata", call);
        vm.serializeString(name, "fields", expected);
        last = vm.serializeString("root", name, vm.serializeBytes(name, "data", data));
    }

    function wallets(string memory name, address to, bytes memory call) private {
        (, bytes memory data) = to.call(call);
        address[] memory list = abi.decode(data, (address[]));
        row(name, to, call, vm.serializeAddress(string.concat(name, "/"), "wallets", list));
    }

    function word(string memory name, bytes memory call) private {
        (, bytes memory data) = address(kms).call(call);
        row(name, address(kms), call, vm.serializeBytes32(string.concat(name, "/"), "word", bytes32(data)));
    }

    function revertRow(string memory name, address sender, bytes memory call) private {
        vm.prank(sender);
        (bool ok, bytes memory data) = address(kms).call(call);
        require(!ok, name);
        vm.serializeBytes(name, "calldata", call);
        last = vm.serializeString("root", name, vm.serializeBytes(name, "revert", data));
    }

    function fields(address wallet) private returns (string memory) {
        INovaAppRegistry.RuntimeInstance memory i = apps.getInstanceByWallet(wallet);
        string memory o = string.concat("instance", string(abi.encodePacked(wallet)));
        vm.serializeUint(o, "instance_id", i.instanceId);
        vm.serializeUint(o, "app_id", i.appId);
        vm.serializeUint(o, "version_id", i.versionId);
        vm.serializeAddress(o, "operator", i.operator);
        vm.serializeString(o, "instance_url", i.instanceUrl);
        vm.serializeBytes(o, "tee_pubkey", i.teePubkey);
        vm.serializeAddress(o, "tee_wallet", i.teeWalletAddress);
        vm.serializeBool(o, "zk_verified", i.zkVerified);
        vm.serializeUint(o, "status", i.status);
        return vm.serializeUint(o, "registered_at", i.registeredAt);
    }

    function appFields(uint256 appId) private returns (string memory) {
        INovaAppRegistry.App memory a = apps.getApp(appId);
        string memory o = string.concat("app", string(abi.encodePacked(appId)));
        vm.serializeUint(o, "app_id", a.appId);
        vm.serializeAddress(o, "owner", a.owner);
        vm.serializeBytes32(o, "tee_arch", a.teeArch);
        vm.serializeAddress(o, "dapp_contract", a.dappContract);
        vm.serializeUint(o, "latest_version_id", a.latestVersionId);
        vm.serializeUint(o, "created_at", a.createdAt);
        vm.serializeUint(o, "status", a.status);
        return vm.serializeAddress(o, "app_wallet", a.appWallet);
    }

    function versionFields(uint256 appId, uint256 versionId) private returns (string memory) {
        INovaAppRegistry.AppVersion memory v = apps.getVersion(appId, versionId);
        string memory o = string.concat("version", string(abi.encodePacked(versionId)));
        vm.serializeUint(o, "version_id", v.versionId);
        vm.serializeBytes32(o, "code_measurement", v.codeMeasurement);
        vm.serializeUint(o, "status", v.status);
        vm.serializeUint(o, "enrolled_at", v.enrolledAt);
        return vm.serializeAddress(o, "enrolled_by", v.enrolledBy);
    }
}
