// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// What is read of the registry of apps, their versions and their instances.
/// The status members are numbers, not enums: a value that is not known here
/// is then an answer like any other, which nobody takes for a good one.
interface INovaAppRegistry {
    struct RuntimeInstance {
        uint256 instanceId; // 0: there is none
        uint256 appId;
        uint256 versionId;
        address operator;
        string instanceUrl;
        bytes teePubkey; // P-384, SubjectPublicKeyInfo
        address teeWalletAddress;
        bool zkVerified;
        uint8 status; // ACTIVE 0, STOPPED 1, FAILED 2
        uint256 registeredAt;
    }

    struct App {
        uint256 appId; // 0: there is none
        address owner;
        bytes32 teeArch;
        address dappContract;
        string metadataUri;
        uint256 latestVersionId;
        uint256 createdAt;
        uint8 status; // ACTIVE 0, INACTIVE 1, REVOKED 2
        address appWallet; // older registries have no such member
    }

    struct AppVersion {
        uint256 versionId; // 0: there is none
        string versionName;
        bytes32 codeMeasurement;
        string imageUri;
        string auditUrl;
        string auditHash;
        string githubRunId;
        uint8 status; // ENROLLED 0, DEPRECATED 1, REVOKED 2
        uint256 enrolledAt;
        address enrolledBy;
    }

    /// The wallets of an app's ACTIVE instances.
    function getActiveInstances(uint256 appId) external view returns (address[] memory);

    /// The instance with this wallet; members zero when there is none.
    function getInstanceByWallet(address wallet) external view returns (RuntimeInstance memory);

    function getApp(uint256 appId) external view returns (App memory);

    function getVersion(uint256 appId, uint256 versionId) external view returns (AppVersion memory);
}
