// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// How pages of one address space are pinned: by the kernel, or in place (see
/// docs/client-memory.md). A front end decides when the client first makes a call that may lead to
/// pins.
package final class AddressSpacePinning: Sendable {
  private enum State {
    case undecided
    /// `process` is a pidfd of the process whose thread made the agent.
    case exact(ExactPins, process: OwnedDescriptor)
    case inPlace
  }

  private let state = Mutex(State.undecided)
  private let hadPins = Atomic(false)
  private let deciding = Mutex<Void>(())

  package init() {}

  private var isDecided: Bool {
    state.withLock { if case .undecided = $0 { false } else { true } }
  }

  /// Calls `decide` if it is not decided yet how pages are pinned. Other threads wait meanwhile.
  /// - Parameter body: calls ``decide(_:of:)`` or ``decideInPlace()``.
  /// - Returns: what `body` returns; `nil` when it was not called.
  package func decideOnce<Value>(_ body: () -> Value) -> Value? {
    if isDecided { return nil }
    return deciding.withLock { _ in isDecided ? nil : body() }
  }

  /// `nil` where pages are used in place.
  package var pins: ExactPins? {
    state.withLock { if case .exact(let pins, _) = $0 { pins } else { nil } }
  }

  /// Whether the kernel has pinned pages of the address space, or can.
  package var isExact: Bool { hadPins.load(ordering: .relaxed) }

  package func decide(_ pins: ExactPins, of process: OwnedDescriptor) {
    hadPins.store(true, ordering: .relaxed)
    state.withLock { $0 = .exact(pins, process: process) }
  }

  package func decideInPlace() { state.withLock { $0 = .inPlace } }

  /// Ends the agent, which would keep the address space. Pinned pages stay pinned.
  package func end() {
    let pins = state.withLock { state -> ExactPins? in
      guard case .exact(let pins, _) = state else { return nil }
      state = .undecided
      return pins
    }
    pins?.end()
  }

  /// Ends the agent if its process has ended.
  func endWithProcess() {
    let hasEnded = state.withLock { state in
      guard case .exact(_, let process) = state else { return false }
      var request = pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)
      return poll(&request, 1, 0) != 0
    }
    if hasEnded { end() }
  }
}
