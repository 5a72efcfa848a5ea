// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import SystemPackage
internal import Testing
internal import UAPI

@testable import LauncherFront

private struct Node: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile { throw .ioError }
}

private let paths = DevicePaths([
  DeviceNode(
    paths: ["/dev/iommu", "/dev/iommufd-sim"], major: 511, minor: 0, device: Node(name: "iommu")),
  DeviceNode(
    paths: ["/dev/vfio/devices/vfio7"], major: 511, minor: 7,
    device: Node(name: "vfio/devices/vfio7")),
])

@Suite struct DevicePathsTests {
  private let task = HostTask(id: getpid())

  private func minor(_ path: String, from directory: Int32 = AT_FDCWD) -> UInt32? {
    guard case .node(let node) = paths.target(of: path, from: directory, in: task) else {
      return nil
    }
    return node.minor
  }

  @Test func allSpellingsOfANodesPathLeadToIt() {
    for path in [
      "/dev/iommu", "/dev/iommufd-sim", "//dev///iommu", "/dev/./iommu", "/x/../dev/iommu",
    ] {
      #expect(minor(path) == 0, "\(path)")
    }
    #expect(minor("/dev/vfio/devices/vfio7") == 7)
    #expect(minor("/dev/vfio/devices/../devices/vfio7") == 7)
  }

  @Test func otherPathsLeadNowhere() {
    let others = [
      "", "/", "/dev", "/dev/iommux", "/dev/iommu/", "iommu", "/tmp/iommu",
      "/dev/vfio/devices/vfio8",
      "/dev/null", "/etc/passwd", "/dev/vfio/iommu", "/dev/fd/99", "/proc/self/fd/99", "/..",
    ]
    for path in others { #expect(minor(path) == nil, "\(path)") }
  }

  @Test func directoriesAboveNodesAreFound() {
    for path in ["/dev/vfio", "/dev/vfio/devices", "/dev/vfio/../vfio/devices"] {
      guard case .directory = paths.target(of: path, from: AT_FDCWD, in: task) else {
        Issue.record("\(path) is no directory")
        continue
      }
    }
    #expect(paths.target(of: "/dev", from: AT_FDCWD, in: task) == nil)
  }

  @Test func pathsAreResolvedRelativeToADescriptor() throws {
    let directory = try FileDescriptor.open("/dev", .readOnly)
    defer { try? directory.close() }
    #expect(minor("iommu", from: directory.rawValue) == 0)
    #expect(minor("vfio/devices/vfio7", from: directory.rawValue) == 7)
    #expect(minor("iommu", from: 9999) == nil)
    #expect(minor("/dev/iommu", from: 9999) == 0)
  }

  @Test func symbolicLinksAreFollowed() throws {
    var template = Array("/tmp/launcher-XXXXXX".utf8CString)
    let made = mkdtemp(&template)
    let directory = String(cString: try #require(made))
    defer {
      for name in ["a", "b", "loop", "dev"] { unlink("\(directory)/\(name)") }
      rmdir(directory)
    }
    symlink("/dev/iommu", "\(directory)/a")
    symlink("a", "\(directory)/b")
    symlink("loop", "\(directory)/loop")
    symlink("/dev", "\(directory)/dev")
    #expect(minor("\(directory)/a") == 0)
    #expect(minor("\(directory)/b") == 0)
    #expect(minor("\(directory)/loop") == nil)
    #expect(minor("\(directory)/dev/iommu") == 0)
  }

  @Test func aDescriptorsLinkLeadsToItsNode() throws {
    let standIn = try StandInFile.make(for: "/dev/vfio/devices/vfio7", hasRegions: false)
    #expect(minor("/proc/self/fd/\(standIn.rawValue)") == 7)
    #expect(minor("/dev/fd/\(standIn.rawValue)") == 7)
  }
}
