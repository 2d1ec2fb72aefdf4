# syntax=docker/dockerfile:1
# docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$(git describe --tags) .
# `make image` makes the same image without a container engine.

# The compiler runs on the machine's own platform, whichever it builds for.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=devel
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/ratelimitd/ratelimitd/internal/app.version=$VERSION" -o /ratelimitd ./cmd/ratelimitd
# The licences of what is linked into the program, which it must be handed on with. The tools may ask for a later patch of Go.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOTOOLCHAIN=auto go -C tools run ./image/licenses -source .. -out /licenses /ratelimitd

# The authorities for TLS to Redis, and nothing else that the program needs: no shell, no C library.
FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=devel
LABEL org.opencontainers.image.title="ratelimitd" \
      org.opencontainers.image.description="Rate limits and budgets for AI assistants, decided before the request" \
      org.opencontainers.image.source="https://github.com/ratelimitd/ratelimitd" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /licenses /licenses
COPY --from=build /ratelimitd /ratelimitd
# By number: Kubernetes cannot tell that a name is not root.
USER 65532:65532
ENTRYPOINT ["/ratelimitd"]
CMD ["serve"]
