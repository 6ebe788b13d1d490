// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Deploy} from "../script/Deploy.s.sol";
import {KMSRegistry} from "../src/KMSRegistry.sol";
import {Test} from "./Test.sol";

contract DeployTest is Test {
    address private constant REGISTRY = address(0xBEEF);

    function test_for_another_owner_the_app_is_left_open() public {
        KMSRegistry kms = new Deploy().deploy(address(0xA11CE), REGISTRY, 0);
        vm.assertEq(kms.OWNER(), address(0xA11CE));
        vm.assertEq(kms.novaAppRegistry(), REGISTRY);
        vm.assertEq(kms.kmsAppId(), 0);
    }

    function test_for_oneself_the_app_is_set() public {
        Deploy script = new Deploy();
        KMSRegistry kms = script.deploy(address(script), REGISTRY, KMS_APP);
        vm.assertEq(kms.kmsAppId(), KMS_APP);
    }
}
