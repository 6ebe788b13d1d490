// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KMSRegistry} from "../src/KMSRegistry.sol";

interface Vm {
    function envAddress(string calldata name) external view returns (address);
    function envUint(string calldata name) external view returns (uint256);
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploy KMSRegistry for OWNER at the app registry NOVA_APP_REGISTRY, both
/// from the environment. With KMS_APP_ID the app is set too, which the owner
/// alone can do: then the sender must be OWNER.
contract Deploy {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    function run() external returns (KMSRegistry kms) {
        vm.startBroadcast();
        kms = deploy(vm.envAddress("OWNER"), vm.envAddress("NOVA_APP_REGISTRY"), vm.envUint("KMS_APP_ID"));
        vm.stopBroadcast();
    }

    /// appId 0 leaves it to the owner to set it later.
    function deploy(address owner, address registry, uint256 appId) public returns (KMSRegistry kms) {
        kms = new KMSRegistry(owner, registry);
        if (appId != 0) kms.setKmsAppId(appId);
    }
}
